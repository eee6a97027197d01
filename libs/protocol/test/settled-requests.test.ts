/** An answered request costs no error with a stack; one that fails still fails with its own. */
import { errors, RequestOne } from "@nats-io/nats-core/internal";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cancelSettledCheaply } from "../src/nats/settled-requests.ts";

type Arguments = ConstructorParameters<typeof RequestOne>;
const ANSWER = { subject: "inbox" } as Parameters<RequestOne["resolver"]>[1];

function request() {
  const cancelled: string[] = [];
  const mux = { cancel: ({ token }: RequestOne) => cancelled.push(token) } as unknown as Arguments[0];
  const made = new RequestOne(mux, "subject", { timeout: 60_000 }, false);
  made.timer.catch(() => {});
  return { made, cancelled };
}

describe("a request", () => {
  const { cancel } = RequestOne.prototype;
  beforeEach(cancelSettledCheaply);
  afterEach(() => {
    RequestOne.prototype.cancel = cancel;
  });

  it("that was answered is cancelled with an error that was there already", async () => {
    const rejections = [request(), request()].map(({ made, cancelled }) => {
      let rejection: unknown;
      const { reject } = made.deferred;
      made.deferred.reject = (error) => {
        rejection = error;
        reject(error);
      };
      made.resolver(null, ANSWER);
      expect(cancelled).toEqual([made.token]);
      return { answer: made.deferred, rejection };
    });
    for (const { answer } of rejections) await expect(answer).resolves.toBe(ANSWER);
    expect(rejections[0]?.rejection).toBeInstanceOf(errors.RequestError);
    expect(rejections[1]?.rejection).toBe(rejections[0]?.rejection);
  });

  it("that fails, or is given up, says its own error", async () => {
    const failed = request().made;
    failed.resolver(new errors.NoRespondersError("subject"), ANSWER);
    await expect(failed.deferred).rejects.toMatchObject({ cause: expect.any(errors.NoRespondersError) });
    const givenUp = request().made;
    const reason = new Error("no longer wanted");
    givenUp.cancel(reason);
    await expect(givenUp.deferred).rejects.toBe(reason);
  });
});
