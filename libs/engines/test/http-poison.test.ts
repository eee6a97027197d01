/** A call that brings its server down: it fails, and the calls beside it do not. */
import { afterEach, describe, expect, it } from "vitest";
import type { HttpLimits } from "../src/http/index.ts";
import type { EngineCall } from "../src/port.ts";
import type { ServerOptions } from "./conformance-server/index.ts";
import { chat, complete, open } from "./contract.ts";
import { disposeRigs, type HttpRig, makeHttpRig, stepUntil } from "./http-rig.ts";

afterEach(disposeRigs);

const POISON = chat("Poison.", { completionTokensMax: 40 });
const INNOCENTS = [2, 3, 6].map((i) => chat(`Innocent ${i}.`, { completionTokensMax: 40 }));

/** A server that is started again each time that it is seen to be down. */
async function supervised(options: ServerOptions, limits: Partial<HttpLimits> = {}): Promise<HttpRig> {
  const lines: string[] = [];
  let restart = () => {};
  const log = (level: string, text: string) => {
    lines.push(`${level}: ${text}`);
    if (text.includes("is down")) restart();
  };
  const rig = await makeHttpRig(options, { log, limits });
  restart = () => void rig.server.start();
  return { ...rig, lines };
}

interface Told {
  text: string;
  finish: string | undefined;
  error: unknown;
}

/** To the end of each, whichever. */
async function ends({ engine }: HttpRig, calls: readonly EngineCall[]): Promise<Told[]> {
  const told = calls.map((): Told => ({ text: "", finish: undefined, error: undefined }));
  const live = () => calls.filter((_, i) => told[i]?.finish === undefined && told[i]?.error === undefined);
  while (live().length > 0) {
    for (const { call, text, finish, error } of (await engine.step(live())).calls) {
      const one = told[calls.indexOf(call)];
      if (one === undefined) throw new Error("a result of no call");
      one.text += text;
      one.finish = finish;
      one.error = error;
    }
  }
  return told;
}

describe.each(["vllm", "sglang", "llama-server", "openai"] as const)(
  "on %s, a call that brings its server down",
  (dialect) => {
    it.each([0, 5])("after %i tokens fails, and its neighbours do not", async (tokens) => {
      const rig = await supervised({ dialect, tokenMs: 2 });
      const wholes = [];
      for (const one of INNOCENTS) wholes.push(await complete(rig.engine, one));
      rig.server.mischief = { kills: { text: "Poison.", tokens } };
      const calls = await Promise.all([...INNOCENTS, POISON].map((one) => open(rig.engine, one)));
      const [poison, ...others] = [calls.at(-1), ...calls.slice(0, -1)] as [EngineCall, ...EngineCall[]];
      const before = await stepUntil(rig.engine, others, () => others.every((call) => call.completionTokens > 2));
      const [dead, ...answers] = await ends(rig, [poison, ...others]);
      expect(dead?.error).toMatchObject({ code: "engine_error", message: expect.stringMatching(/went down 3 times/) });
      expect(
        answers.map(({ text, finish }, i) => [before[i]?.map((step) => step.text).join("") + text, finish]),
      ).toEqual(wholes.map(({ text, finish }) => [text, finish]));
      expect(rig.engine.server()).toMatchObject({ downs: 3, failedCalls: 1 });
      await Promise.all(calls.map((call) => rig.engine.close(call)));
      rig.server.mischief = {};
      expect((await complete(rig.engine, POISON)).finish).toBeDefined();
    });
  },
);

it("a suspect has the server for itself until its first token, and calls that come meanwhile wait", async () => {
  const rig = await supervised({ dialect: "vllm", tokenMs: 2 }, { stallMsMax: 1_000 });
  const calls = await Promise.all(INNOCENTS.map((one) => open(rig.engine, one)));
  const late = await open(rig.engine, POISON);
  await stepUntil(rig.engine, calls, () => calls.every((call) => call.completionTokens > 0));
  rig.server.requests.length = 0;
  // Of the others the engine sees what the server is now.
  const streams = () => rig.server.requests.filter(({ body }) => body.stream === true);
  rig.server.mischief = { after: { tokens: 0, times: 1, what: "stall" } };
  await rig.server.stop();
  await stepUntil(rig.engine, calls, () => rig.engine.health().state === "down");
  await stepUntil(rig.engine, [...calls, late], () => streams().length > 0);
  for (let i = 0; i < 10; i++) await rig.engine.step([...calls, late]);
  expect(streams()).toHaveLength(1);
  expect((await ends(rig, [...calls, late])).map(({ error }) => error)).toEqual(Array(4).fill(undefined));
  expect(streams()).toHaveLength(5);
});

it("a call that leaves while its server is down is known when it comes back", async () => {
  const rig = await makeHttpRig({ dialect: "vllm", tokenMs: 2 });
  rig.server.mischief = { kills: { text: "Poison.", tokens: 0 } };
  for (let downs = 1; downs <= 3; downs++) {
    const call = await open(rig.engine, POISON, [], { key: "poison" });
    await stepUntil(rig.engine, [call], () => rig.engine.server().downs === downs);
    await rig.engine.close(call);
    await rig.server.start();
  }
  const call = await open(rig.engine, POISON, [], { key: "poison" });
  const [told] = await ends({ ...rig }, [call]);
  expect(told?.error).toMatchObject({ code: "engine_error", message: expect.stringMatching(/went down 3 times/) });
  expect(rig.engine.server().downs).toBe(3);
});

it("a server that goes down again and again under no call in particular ends none", async () => {
  const rig = await supervised({ dialect: "vllm", tokenMs: 1 });
  const calls = await Promise.all(INNOCENTS.map((one) => open(rig.engine, one)));
  for (let downs = 1; downs <= 5; downs++) {
    const tokens = rig.engine.counters().tokens + 6;
    await stepUntil(rig.engine, calls, () => rig.engine.counters().tokens >= tokens);
    await rig.server.stop();
    await stepUntil(rig.engine, calls, () => rig.engine.server().downs === downs);
  }
  expect((await ends(rig, calls)).map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
});
