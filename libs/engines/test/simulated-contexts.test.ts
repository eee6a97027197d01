import type { ChatCall, ChatMessage } from "@autellix/protocol";
import { afterEach, describe, expect, it } from "vitest";
import { type Engine, type EngineCall, openSimulatedEngine, presets, type SimulatedOptions } from "../src/index.ts";
import { advance, chat, complete } from "./contract.ts";

const KV_TOKEN_BYTES = presets["a100-8b"].kvTokenBytes;
const BLOCK_BYTES = 16 * KV_TOKEN_BYTES;

let engine: Engine;
let slept: number[];
afterEach(() => engine.shutdown());

function start(options: Partial<SimulatedOptions> = {}): Engine {
  slept = [];
  const clock = { sleepMs: async (ms: number) => void slept.push(ms) };
  engine = openSimulatedEngine({ models: ["sim"], preset: "a100-8b", clock, ...options });
  return engine;
}

let opened = 0;
function open(call: ChatCall, continues?: EngineCall): Promise<EngineCall> {
  return engine.open({
    key: `call-${++opened}`,
    chat: call,
    body: {},
    forcedIds: [],
    ...(continues === undefined ? {} : { continues }),
  });
}

function conversation(...contents: string[]): ChatMessage[] {
  return contents.map((content, index) => ({ role: index % 2 === 0 ? "user" : "assistant", content }));
}

describe("the host tier of the simulated engine", () => {
  it("moves a context in one transfer at the speed of PCIe, and back", async () => {
    start();
    const call = await open(chat("x".repeat(4 * 1_000), { completionTokensMax: 10 }));
    const [first] = await advance(engine, [call], 3);
    const tokens = call.contextTokens;
    const before = slept.length;
    const bytes = Math.ceil(tokens / 16) * BLOCK_BYTES;
    const out = await engine.swapOut(call);
    expect(out).toEqual({ tokens, bytes, durationMs: bytes / 25e6 + 0.1 });
    expect(slept.slice(before)).toEqual([out?.durationMs]);
    expect([call.contextTokens, call.hostTokens]).toEqual([0, tokens]);
    expect(engine.counters()).toMatchObject({ residentCalls: 0, contextTokens: 0, hostBytes: bytes, swapOuts: 1 });
    await expect(engine.step([call])).rejects.toThrow("host tier");
    expect(await engine.swapIn(call)).toEqual(out);
    expect([call.contextTokens, call.hostTokens]).toEqual([tokens, 0]);
    const prefilled = engine.counters().prefilledTokens;
    const [rest] = await advance(engine, [call]);
    expect(engine.counters()).toMatchObject({
      prefilledTokens: prefilled,
      swapOuts: 1,
      swapIns: 1,
      swapBytes: 2 * bytes,
      hostBytes: 0,
    });
    const whole = await complete(engine, chat("x".repeat(4 * 1_000), { completionTokensMax: 10 }));
    expect(`${first?.text}${rest?.text}`).toBe(whole.text);
  });

  it("takes no more than hostKvBytesMax, and what does not fit stays where it was", async () => {
    start({ hostKvBytesMax: 3 * BLOCK_BYTES + 1 });
    expect(engine.info).toMatchObject({ preemption: "swap", hostBlocks: 3 });
    const calls = [await open(chat("x".repeat(4 * 20))), await open(chat("x".repeat(4 * 20)))] as const;
    await advance(engine, calls, 1);
    expect(await engine.swapOut(calls[0])).toBeDefined();
    expect(await engine.swapOut(calls[1])).toBeUndefined();
    expect(calls[1].contextTokens).toBeGreaterThan(0);
    await engine.close(calls[0]);
    expect(engine.counters().hostBytes).toBe(0);
    expect(await engine.swapOut(calls[1])).toBeDefined();
    await engine.evict(calls[1]);
    expect([calls[1].hostTokens, engine.counters().hostBytes]).toEqual([0, 0]);
    expect(await engine.swapIn(calls[1])).toBeUndefined();
  });

  it("is not there with hostKvBytesMax 0", async () => {
    start({ hostKvBytesMax: 0 });
    expect(engine.info).toMatchObject({ preemption: "recompute", hostBlocks: 0 });
    const call = await open(chat("Hello."));
    await advance(engine, [call], 1);
    expect(await engine.swapOut(call)).toBeUndefined();
  });

  it("has a step wait for a transfer under way, and a transfer for a step", async () => {
    start();
    const [a, b] = [await open(chat("One.")), await open(chat("Two."))];
    await advance(engine, [a, b], 2);
    const order: string[] = [];
    await Promise.all([
      engine.swapOut(a).then(() => order.push("out")),
      engine.step([b]).then(() => order.push("step")),
      engine.swapIn(a).then(() => order.push("in")),
    ]);
    expect(order).toEqual(["out", "step", "in"]);
  });
});

describe("contexts that are gone on from", () => {
  it("evaluates only what a longer conversation has more", async () => {
    start();
    const call = await open(chat("Tell me a story."));
    const [answer] = await advance(engine, [call]);
    expect(await engine.retain(call)).toBe(true);
    const context = call.contextTokens;
    await expect(engine.step([call])).rejects.toThrow("ended");
    const messages = conversation("Tell me a story.", answer?.text ?? "", "x".repeat(4 * 100));
    const cold = await complete(engine, chat("", { messages }));

    const before = engine.counters();
    const next = await open(chat("", { messages }), call);
    expect([next.cachedTokens, next.contextTokens]).toEqual([context, context]);
    expect(engine.counters()).toMatchObject({ residentCalls: 1, contextTokens: context });
    const [warm] = await advance(engine, [next]);
    expect(warm?.ids).toEqual(cold.ids);
    const after = engine.counters();
    expect(after.prefilledTokens - before.prefilledTokens).toBe(next.promptTokens - context);
    expect(after.cachedTokens - before.cachedTokens).toBe(context);
    await expect(engine.step([call])).rejects.toThrow("closed");
  });

  it("keeps of another conversation only what both begin with", async () => {
    start();
    const call = await open(chat("", { messages: conversation("A".repeat(400), "b", "C".repeat(400)) }));
    await advance(engine, [call]);
    await engine.retain(call);
    const next = await open(chat("", { messages: conversation("A".repeat(400), "b", "D".repeat(400)) }), call);
    expect(next.cachedTokens).toBe(100 + 4 + 1 + 4);
    await engine.retain(next);
    const other = await open(chat("Something else."), next);
    expect([other.cachedTokens, other.contextTokens]).toEqual([0, 0]);
  });

  it("goes on from the host tier, with one transfer", async () => {
    start();
    const call = await open(chat("x".repeat(4 * 500)));
    const [answer] = await advance(engine, [call]);
    await engine.retain(call);
    const out = await engine.swapOut(call);
    const messages = conversation("x".repeat(4 * 500), answer?.text ?? "", "And then?");
    const next = await open(chat("", { messages }), call);
    expect([next.contextTokens, next.hostTokens, next.cachedTokens]).toEqual([0, out?.tokens, out?.tokens]);
    expect(await engine.swapIn(next)).toMatchObject({ tokens: out?.tokens });
    await advance(engine, [next]);
    expect(engine.counters()).toMatchObject({ swapIns: 1, swapOuts: 1, hostBytes: 0 });
  });

  it("says that nothing was cached once the context was evicted", async () => {
    start();
    const call = await open(chat("Tell me a story."));
    await advance(engine, [call]);
    await engine.retain(call);
    const next = await open(chat("Tell me a story."), call);
    expect(next.cachedTokens).toBe(next.promptTokens - 1);
    await engine.evict(next);
    await advance(engine, [next], 1);
    expect([next.cachedTokens, engine.counters().cachedTokens]).toEqual([0, 0]);
  });

  it("does not retain a call without a context", async () => {
    start();
    const call = await open(chat("Hello."));
    expect(await engine.retain(call)).toBe(false);
    await expect(engine.step([call])).rejects.toThrow("closed");
  });

  it("leaves nothing for another engine", async () => {
    start();
    const call = await open(chat("Hello."));
    await advance(engine, [call], 2);
    expect(await engine.leave(call)).toBeUndefined();
    expect(engine.counters()).toMatchObject({ residentCalls: 0, hostBytes: 0 });
  });
});

describe("what the simulated engine does not serve", () => {
  it.each<[string, Partial<ChatCall>]>([
    ["messages[0].content[1].type", { foreign: ["messages[0].content[1].type", "logit_bias"] }],
    ["tools", { tools: [{ name: "clock" }], toolChoice: "auto" }],
    ["response_format", { responseFormat: { type: "json_object" } }],
    ["logprobs", { logprobs: 0 }],
  ])("refuses %s", async (param, fields) => {
    start();
    await expect(open(chat("Hello.", fields))).rejects.toMatchObject({ code: "unsupported_parameter", param });
  });
});
