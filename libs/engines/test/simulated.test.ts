import { afterEach, describe, expect, it } from "vitest";
import { type Engine, openSimulatedEngine, presets } from "../src/index.ts";
import { decodeWords, END_ID } from "../src/simulated/words.ts";
import { advance, chat, complete, engineContract, open, SUBJECT } from "./contract.ts";

engineContract(
  "the simulated engine",
  async () => ({
    engine: openSimulatedEngine({
      models: ["sim"],
      preset: {
        ...presets.zero,
        sliceTokens: SUBJECT.sliceTokens,
        kvTokenBytes: 1_024,
        hostKvTokens: SUBJECT.hostBlocks * SUBJECT.blockTokens,
      },
      batchCallsMax: SUBJECT.batchCallsMax,
      residentCallsMax: SUBJECT.residentCallsMax,
      contextTokensMax: SUBJECT.contextTokensMax,
    }),
    decode: (ids) => decodeWords(ids.filter((id) => id !== END_ID)),
    foreignId: 100_000,
  }),
  ({ engine }) => engine.shutdown(),
  { hostTier: true, retains: true },
);

describe("the cost model of the simulated engine", () => {
  let engine: Engine | undefined;
  afterEach(() => engine?.shutdown());

  function virtual(): { engine: Engine; slept: number[] } {
    const slept: number[] = [];
    const clock = { sleepMs: async (ms: number) => void slept.push(ms) };
    engine = openSimulatedEngine({ models: ["sim"], preset: "a100-8b", clock });
    return { engine, slept };
  }

  it("charges weights for each step, prompt tokens while they are computed and KV reads after that", async () => {
    const { engine, slept } = virtual();
    const call = await open(engine, chat("x".repeat(400 * 4), { completionTokensMax: 3 }));
    expect(call.promptTokens).toBe(404);
    await advance(engine, [call]);
    const readMs = (128 * 1024) / (2.0e9 * 0.78);
    expect(slept).toHaveLength(3);
    expect(slept[0]).toBeCloseTo(7.9 + 404 * 0.093, 9);
    expect(slept[1]).toBeCloseTo(7.9 + 404 * readMs, 9);
    expect(slept[2]).toBeCloseTo(7.9 + 405 * readMs, 9);
    expect(engine.counters().busyMs).toBeCloseTo(
      slept.reduce((a, b) => a + b, 0),
      9,
    );
  });

  it("shares one reading of the weights among a batch", async () => {
    const { engine, slept } = virtual();
    const calls = await Promise.all([0, 1, 2].map((i) => open(engine, chat(`call ${i}`, { completionTokensMax: 10 }))));
    await advance(engine, calls, 2);
    const before = slept.length;
    const { durationMs } = await engine.step(calls);
    expect(slept.length - before).toBe(1);
    expect(durationMs).toBeLessThan(3 * 7.9);
  });

  it("has the A100's KV for 427k tokens", () => {
    expect(virtual().engine.info).toMatchObject({
      kind: "simulated",
      kvBlocks: Math.floor(427_000 / 16),
      blockTokens: 16,
    });
  });

  it("draws answers that depend on the prompt, 100 tokens on average", async () => {
    engine = openSimulatedEngine({ models: ["sim"], preset: "zero" });
    const lengths: number[] = [];
    for (let i = 0; i < 300; i++) lengths.push((await complete(engine, chat(`prompt ${i}`))).ids.length);
    const mean = lengths.reduce((a, b) => a + b, 0) / lengths.length;
    expect(mean).toBeGreaterThan(85);
    expect(mean).toBeLessThan(115);
    expect(Math.min(...lengths)).toBeGreaterThanOrEqual(2);
    expect(Math.max(...lengths)).toBeLessThan(200);
  });

  it("leaves the event loop to others between steps that take no time", async () => {
    engine = openSimulatedEngine({ models: ["sim"], preset: "zero" });
    const call = await open(engine, chat("long", { completionTokensMax: 30_000 }));
    let steps = 0;
    let fired = false;
    setTimeout(() => {
      fired = true;
    }, 1);
    while (!fired && steps < 30_000) {
      await engine.step([call]);
      steps++;
    }
    expect(fired).toBe(true);
  });
});
