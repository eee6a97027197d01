import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Engine, openSimulatedEngine, type Preset, presets, type SimulatedOptions } from "@autellix/engines";
import { openLlamaEngine } from "@autellix/engines/llama";
import { writeTinyModel } from "@autellix/engines/tiny-model";
import { type ChatCompletion, type PlanCall, writeOutcomeRecord } from "@autellix/protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { chat, eventually, openStage, outcomeOf, POOL, type Stage, TENANT } from "./support/stage.ts";
import { random } from "./support/world.ts";

let nats: TestNats;
let folder: string;
beforeAll(async () => {
  nats = await startTestNats();
  folder = await mkdtemp(join(tmpdir(), "autellix-contexts-"));
});
afterAll(async () => {
  await nats?.stop();
  await rm(folder, { recursive: true, force: true });
});

let stage: Stage;
beforeEach(async () => {
  stage = await openStage(nats.url);
});
afterEach(() => stage.close());

let serial = 0;
/** Calls and engines of one test meet no others on the server that all share. */
const fresh = (name: string) => `${name}-${++serial}`;

/** A step takes 2 ms, a prompt token 0.1 ms, a transfer some µs. */
const paced: Preset = {
  ...presets.zero,
  cost: { stepMs: 2, prefillTokenMs: 0.1, contextTokenMs: 0 },
  sliceTokens: 64,
};

/** An engine of which each call of the port is checked: what it holds never exceeds what it has. */
function watched(options: Partial<SimulatedOptions>): { engine: Engine; seen: { residentMax: number } } {
  const engine = openSimulatedEngine({ models: ["sim"], preset: paced, ...options });
  const seen = { residentMax: 0 };
  const check = () => {
    const { residentCalls, contextTokens } = engine.counters();
    seen.residentMax = Math.max(seen.residentMax, residentCalls);
    const { residentCallsMax, kvBlocks, blockTokens } = engine.info;
    if (residentCalls > residentCallsMax) throw new Error(`${residentCalls} contexts on the engine`);
    if (contextTokens > kvBlocks * blockTokens) throw new Error(`${contextTokens} tokens on the engine`);
  };
  const { step, swapIn } = engine;
  engine.step = async (batch) => {
    check();
    const result = await step.call(engine, batch);
    check();
    return result;
  };
  engine.swapIn = async (call) => {
    const swap = await swapIn.call(engine, call);
    check();
    return swap;
  };
  return { engine, seen };
}

function textOf(response: unknown): string | null | undefined {
  return (response as ChatCompletion | undefined)?.choices[0].message.content;
}

const held = ({ call, attempt }: PlanCall) => ({ call, attempt });

describe("four times as many calls as the engine has room for", () => {
  it("are moved about without an error, and each says what it says undisturbed", async () => {
    const body = (i: number) => chat(`${i} ${"word ".repeat(60)}`, { max_tokens: 60 });
    const id = fresh("e");
    const { engine, seen } = watched({ residentCallsMax: 4, batchCallsMax: 2, kvTokens: 720 });
    const calls = await Promise.all(Array.from({ length: 16 }, (_, i) => stage.call(fresh("c"), body(i))));
    const { failure } = await stage.agent(id, engine);
    await stage.scheduler.plan(id, { run: calls.slice(0, 2), keep: calls.slice(2) });
    const draw = random(1);
    for (let round = 0; round < 40; round++) {
      const count = engine.counters().steps + 5;
      await eventually(() => (engine.counters().steps >= count ? true : undefined));
      const order = calls.map((call) => ({ call, rank: draw() })).sort((a, b) => a.rank - b.rank);
      const shuffled = order.map(({ call }) => held(call));
      await stage.scheduler.plan(id, {
        run: shuffled.slice(0, 2),
        reserve: shuffled.slice(2, 3),
        keep: shuffled.slice(3),
      });
    }
    await stage.scheduler.plan(id, { run: calls.slice(0, 2).map(held), keep: calls.slice(2).map(held) });
    for (const { call } of calls) expect((await stage.frontend.ended(call)).status).toBe("completed");
    const report = await stage.scheduler.report(id, (r) => r.finished.length === calls.length);
    expect(report.counters).toMatchObject({ tokens: 16 * 60 });
    expect(report.counters.swapOuts).toBeGreaterThan(10);
    expect(report.counters.swapIns).toBeGreaterThan(10);
    expect(seen.residentMax).toBe(4);
    const alone = fresh("e");
    await stage.agent(alone, openSimulatedEngine({ models: ["sim"], preset: "zero" }));
    const again = await Promise.all(calls.map((_, i) => stage.call(fresh("c"), body(i))));
    await stage.scheduler.plan(alone, { run: again });
    for (const [i, { call }] of again.entries()) {
      await stage.frontend.ended(call);
      expect(stage.frontend.text(calls[i]?.call ?? "")).toBe(stage.frontend.text(call));
    }
    await Promise.race([failure.then((error) => Promise.reject(error)), Promise.resolve()]);
  }, 60_000);
});

describe("the next call of a program", () => {
  it("goes on from the context of the one before, and says how much of it was there", async () => {
    const id = fresh("e");
    const { engine } = watched({});
    await stage.agent(id, engine);
    const history = "A long history. ".repeat(40);
    const first = await stage.call(fresh("c"), chat(history, { max_tokens: 5 }));
    await stage.scheduler.plan(id, { run: [first] });
    await stage.frontend.ended(first.call);
    const report = await stage.scheduler.report(id, (r) => r.finished.length === 1);
    expect(report.finished[0]?.contextTokens).toBeGreaterThan(100);
    expect(report.kv?.retained).toBeGreaterThan(0);
    const reportSeen = report.number;
    await stage.scheduler.plan(id, { reportSeen, retained: [{ call: first.call, tier: "engine" }] });
    const next = await stage.call(fresh("c"), chat(`${history} And more.`, { max_tokens: 5 }));
    const dispatch = next.dispatch && { ...next.dispatch, continues: first.call };
    await stage.scheduler.plan(id, { reportSeen, run: [{ ...next, ...(dispatch ? { dispatch } : {}) }] });
    await stage.frontend.ended(next.call);
    const { usage } = outcomeOf(await stage.scheduler.ended(next.call.slice(TENANT.length + 1)));
    expect(usage?.prompt_tokens_details?.cached_tokens).toBeGreaterThan(100);
    const after = await stage.scheduler.report(id, (r) => r.finished.some(({ call }) => call === next.call));
    expect(after.counters.cachedTokens).toBe(usage?.prompt_tokens_details?.cached_tokens);
    await stage.scheduler.plan(id, { reportSeen: after.number });
    await eventually(() => (engine.counters().residentCalls === 0 ? true : undefined));
  });
});

describe("an agent whose server is down for long", () => {
  it("leaves its pool with a goodbye, gives its calls back, and joins again when the server is up", async () => {
    const id = fresh("e");
    const { engine } = watched({});
    let downMs: number | undefined;
    engine.health = () => (downMs === undefined ? { state: "up" } : { state: "down", sinceMs: downMs });
    const agent = await stage.agent(id, engine, { engineDownMsMax: 1_000 });
    const first = agent.incarnation;
    const call = await stage.call(fresh("c"), chat("x", { max_tokens: 20_000 }), { reply: "_INBOX.nobody" });
    await stage.scheduler.plan(id, { run: [call] });
    await eventually(() => (engine.counters().tokens > 0 ? true : undefined));
    downMs = 999;
    await stage.scheduler.report(id, (r) => r.calls.some(({ completionTokens }) => completionTokens > 100));
    expect(stage.scheduler.messages.some((m) => m.kind === "exit" && m.engine === id)).toBe(false);
    downMs = 1_000;
    await eventually(() => stage.scheduler.messages.find((m) => m.kind === "exit" && m.incarnation === first));
    await eventually(() => (engine.counters().residentCalls === 0 ? true : undefined));
    downMs = undefined;
    const hello = await stage.scheduler.report(id, (r) => r.incarnation !== first);
    expect(hello).toMatchObject({ incarnation: agent.incarnation, calls: [], info: { kind: "simulated" } });
    expect(await stage.scheduler.outcome(call.call.slice(TENANT.length + 1))).toBeUndefined();
  });
});

describe("an agent that ends while a call runs", () => {
  it("leaves its state for another one of the host, which goes on with it and does not compute it again", async () => {
    const modelFile = join(folder, "tiny.gguf");
    await writeTinyModel(modelFile, { seed: 1 });
    const hostKvDir = await mkdtemp(join(folder, "kv-"));
    const options = {
      modelFile,
      models: ["tiny"],
      hostKvDir,
      hostKvBytesMax: 64 * 1024 * 1024,
      contextTokensMax: 2048,
    };
    const body = chat(`tell ${"a long story ".repeat(20)}`, { max_tokens: 1_500, temperature: 0 });
    const [from, to, alone, id] = [fresh("e"), fresh("e"), fresh("e"), fresh("c")];
    const left = await openLlamaEngine(options);
    const step = left.step.bind(left);
    // Its call must not end before the agent does.
    left.step = async (calls) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      return await step(calls);
    };
    const agent = await stage.agent(from, left, { drainMsMax: 0 });
    const target = await openLlamaEngine(options);
    const entry = await stage.call(id, body);
    await stage.scheduler.plan(from, { run: [entry] });
    await eventually(() => (stage.frontend.tokens(entry.call) > 20 ? true : undefined));
    await agent.stop();
    await eventually(() => stage.scheduler.messages.find((m) => m.kind === "exit" && m.engine === from));
    const address = { pool: POOL, tenant: TENANT, callId: id };
    const head = { kind: "marker", attempt: 2, epoch: 1, engine: to, cause: "engine_lost", crashes: 0 } as const;
    const marker = await writeOutcomeRecord(stage.bus, address, head, new Uint8Array(), 0);
    if (marker.kind !== "stored" || !entry.dispatch) throw new Error(marker.kind);
    await stage.agent(to, target);
    const dispatch = { ...entry.dispatch, fence: marker.seq };
    await stage.scheduler.plan(to, { run: [{ ...entry, attempt: 2, dispatch }] });
    expect((await stage.frontend.ended(entry.call)).status).toBe("completed");
    expect(target.counters()).toMatchObject({ swapIns: 1 });
    expect(target.counters().prefilledTokens).toBeLessThan(20);
    await stage.agent(alone, await openLlamaEngine({ ...options, hostKvBytesMax: 0 }));
    const undisturbed = await stage.call(fresh("c"), body);
    await stage.scheduler.plan(alone, { run: [undisturbed] });
    await stage.frontend.ended(undisturbed.call);
    expect(stage.frontend.text(entry.call)).toBe(stage.frontend.text(undisturbed.call));
    const record = await stage.scheduler.ended(id);
    expect(textOf(outcomeOf(record).response)).toBe(stage.frontend.text(undisturbed.call));
  }, 60_000);
});
