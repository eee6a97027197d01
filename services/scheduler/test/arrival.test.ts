import { headers, PARENT_CALLS_MAX, PROGRAM_ID_LENGTH_MAX } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { readArrival } from "../src/arrival.ts";
import { callMessage } from "./bench.ts";

const LIFETIME_MS = 3_600_000;
const read = (fields: Record<string, string> = {}, over: Parameters<typeof callMessage>[2] = {}) =>
  readArrival(callMessage("c1", fields, over), LIFETIME_MS);

describe("a call without headers", () => {
  it("is its own program, ends as JSON, lives as long as a call may and is estimated by its size", () => {
    expect(read({}, { bodyBytes: 400 })).toEqual({
      kind: "call",
      call: {
        id: "default/c1",
        seq: 1,
        program: "default/c1",
        alone: true,
        arrivedAt: 1_000,
        deadlineAt: 1_000 + LIFETIME_MS,
        promptTokens: expect.any(Number),
        promptTokensMax: expect.any(Number),
      },
      known: {
        address: { pool: "p", tenant: "default", callId: "c1" },
        seq: 1,
        program: "c1",
        thread: undefined,
        reply: undefined,
        trace: undefined,
        bodyObject: undefined,
        encoding: "json",
      },
    });
  });

  it("is larger when its body is larger, also when that is in the object store", () => {
    const tokens = (arrival: ReturnType<typeof read>) => (arrival.kind === "call" ? arrival.call.promptTokens : -1);
    const small = tokens(read({}, { bodyBytes: 400 }));
    expect(small).toBeGreaterThan(0);
    expect(tokens(read({}, { bodyBytes: 40_000 }))).toBeGreaterThan(small);
    expect(tokens(read({ [headers.bodyObject]: "default.o", [headers.bodyBytes]: "40000" }))).toBeGreaterThan(small);
  });
});

describe("a call's headers", () => {
  it("name its program, thread, parents, reply, deadline, trace, size and encoding", () => {
    const arrival = read({
      [headers.program]: "my program / 7",
      [headers.thread]: "left",
      [headers.parents]: "c8, c9,",
      [headers.reply]: "_INBOX.abc.1",
      [headers.deadlineMs]: "5000",
      [headers.trace]: "00-abc-def-01",
      [headers.promptTokens]: "77",
      [headers.bodyObject]: "default.object-1",
      [headers.encoding]: "msgpack",
    });
    expect(arrival).toMatchObject({
      kind: "call",
      call: {
        program: "default/my program / 7",
        thread: "left",
        parents: ["default/c8", "default/c9"],
        deadlineAt: 6_000,
        promptTokens: 77,
        promptTokensMax: 308,
      },
      known: {
        program: "my program / 7",
        thread: "left",
        reply: "_INBOX.abc.1",
        trace: "00-abc-def-01",
        bodyObject: "default.object-1",
        encoding: "msgpack",
      },
    });
    expect(arrival.kind === "call" && "alone" in arrival.call).toBe(false);
  });

  it("can only shorten a call's life", () => {
    expect(read({ [headers.deadlineMs]: "999999999999" })).toMatchObject({ call: { deadlineAt: 1_000 + LIFETIME_MS } });
  });

  it.each([
    ["a deadline of zero", { [headers.deadlineMs]: "0" }, "invalid_request"],
    ["a negative deadline", { [headers.deadlineMs]: "-5" }, "invalid_request"],
    ["a deadline that is no number", { [headers.deadlineMs]: "soon" }, "invalid_request"],
    ["a deadline beyond all numbers", { [headers.deadlineMs]: "9".repeat(16) }, "invalid_request"],
    ["a hexadecimal count", { [headers.promptTokens]: "0x10" }, "invalid_request"],
    ["a fraction of a token", { [headers.promptTokens]: "1.5" }, "invalid_request"],
    ["a program id that is too long", { [headers.program]: "x".repeat(PROGRAM_ID_LENGTH_MAX + 1) }, "invalid_request"],
    ["a thread id that is too long", { [headers.thread]: "x".repeat(PROGRAM_ID_LENGTH_MAX + 1) }, "invalid_request"],
    ["a trace that is too long", { [headers.trace]: "x".repeat(129) }, "invalid_request"],
    ["a parent that is no call id", { [headers.parents]: "ok,not ok" }, "invalid_request"],
    [
      "too many parents",
      {
        [headers.parents]: Array(PARENT_CALLS_MAX + 1)
          .fill("c")
          .join(),
      },
      "invalid_request",
    ],
    ["a reply that would overwrite a lease", { [headers.reply]: "$KV.autellix_pools.lease.p" }, "bad_reply_subject"],
    ["a reply with a wildcard", { [headers.reply]: "_INBOX.>" }, "bad_reply_subject"],
  ])("are refused with a code: %s", (_name, fields, code) => {
    expect(read(fields)).toMatchObject({ kind: "refused", code, message: expect.stringMatching(/\w/) });
  });

  it("never make an end go to a subject that may not get one", () => {
    const arrival = read({ [headers.reply]: "$JS.API.STREAM.DELETE.AUTELLIX_CALLS" });
    expect(arrival.known.reply).toBeUndefined();
  });

  it("do not save a call whose id is not one", () => {
    const message = callMessage("not an id!");
    expect(readArrival(message, LIFETIME_MS)).toMatchObject({ kind: "refused", code: "bad_call_id" });
  });
});

describe("a body in the object store", () => {
  it("of another tenant is refused, and is not given back to be deleted", () => {
    expect(read({ [headers.bodyObject]: "other.0c0ffee0" })).toMatchObject({
      kind: "refused",
      code: "invalid_request",
      known: { bodyObject: undefined },
    });
  });
});
