/** Everything at once: calls of all kinds, parked at any time, on a server that breaks in every way and is restarted. */
import { afterEach, describe, expect, it } from "vitest";
import type { EngineCall } from "../src/port.ts";
import type { Mischief } from "./conformance-server/index.ts";
import { bodyOf, chat } from "./contract.ts";
import { disposeRigs, type HttpRig, makeHttpRig } from "./http-rig.ts";

afterEach(disposeRigs);

const CALLS = 32;
const LIVE_MAX = 9;
const SLOTS = 4;
const STEPS_MAX = 20_000;
const BREAKS = ["close", "garbage", "huge line", "error event", "end", "abort"] as const;

/** The same draws in each run; what falls where still depends on the machine. */
class Draws {
  #state: number;
  constructor(seed: number) {
    this.#state = seed;
  }
  below(limit: number): number {
    this.#state = (Math.imul(this.#state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor(((this.#state >>> 8) / 2 ** 24) * limit);
  }
}

interface Told {
  text: string;
  ids: number[];
  finish: string | undefined;
}
interface Wanted {
  open: () => Promise<EngineCall>;
  whole: Told;
}

async function wantedCalls({ engine }: HttpRig, draws: Draws): Promise<Wanted[]> {
  const wanted: Wanted[] = [];
  for (let i = 0; i < CALLS; i++) {
    const stop = i % 4 === 1 ? ["ing", " the"].slice(0, 1 + draws.below(2)) : [];
    const fields = { completionTokensMax: 5 + draws.below(50), stop, stream: draws.below(3) > 0 };
    const call = chat(`Storm ${i} ${"x".repeat(draws.below(20))}`, fields);
    const more = [{}, {}, { tools: [{ type: "function", function: { name: "f" } }] }, { logprobs: true }][i % 4];
    const open = () => engine.open({ key: `t/${i}`, chat: call, body: { ...bodyOf(call), ...more }, forcedIds: [] });
    const one = await open();
    const whole: Told = { text: "", ids: [], finish: undefined };
    while (whole.finish === undefined) tell(whole, (await engine.step([one])).calls[0]);
    await engine.close(one);
    wanted.push({ open, whole });
  }
  return wanted;
}

function tell(told: Told, step: { text: string; ids: readonly number[]; finish?: string; error?: Error } | undefined) {
  if (step?.error !== undefined) throw step.error;
  told.text += step?.text ?? "";
  told.ids.push(...(step?.ids ?? []));
  told.finish = step?.finish;
}

async function misbehave({ server }: HttpRig, draws: Draws): Promise<void> {
  const what = BREAKS[draws.below(BREAKS.length)] ?? "close";
  const mischief: Mischief = { after: { tokens: draws.below(8), times: 1 + draws.below(2), what } };
  if (draws.below(6) === 0) mischief.status = { code: [500, 503, 429][draws.below(3)] ?? 500, times: 1 };
  server.mischief = mischief;
  server.options.tokensPerChunk = 1 + draws.below(3);
  server.foreign = draws.below(3);
  if (draws.below(6) > 0) return;
  await server.stop();
  await server.start();
}

describe.each(["vllm", "sglang", "llama-server", "openai"] as const)("in a storm on %s", (dialect) => {
  it("each call gets the answer that it gets in peace", { timeout: 120_000 }, async () => {
    const limits = { watchMs: 20, triesMax: 50, crashesMax: 50, lineCharsMax: 64 * 1024 };
    const rig = await makeHttpRig({ dialect, slots: SLOTS }, { limits });
    const draws = new Draws(1);
    const wanted = await wantedCalls(rig, draws);
    rig.server.options.tokenMs = 1;
    const live = new Map<EngineCall, { told: Told; whole: Told }>();
    let parks = 0;
    for (let steps = 0; wanted.length > 0 || live.size > 0; steps++) {
      if (steps > STEPS_MAX) throw new Error("no end");
      for (let next = wanted.pop(); next !== undefined; next = live.size < LIVE_MAX ? wanted.pop() : undefined) {
        live.set(await next.open(), { told: { text: "", ids: [], finish: undefined }, whole: next.whole });
      }
      if (steps % 8 === 0) await misbehave(rig, draws);
      const stays = [...live.keys()].filter((call) => !call.preemptible);
      const others = [...live.keys()].filter((call) => call.preemptible);
      for (let i = draws.below(others.length + 1); i > 0; i--) others.push(...others.splice(0, 1));
      const batch = [...stays, ...others].slice(0, Math.max(stays.length, 1 + draws.below(SLOTS)));
      for (const call of live.keys()) {
        if (batch.includes(call) || draws.below(2) === 0) continue;
        await rig.engine.park(call);
        parks++;
      }
      for (const step of (await rig.engine.step(batch)).calls) {
        const one = live.get(step.call);
        if (one === undefined) throw new Error("a result of no call");
        tell(one.told, step);
        if (step.finish === undefined) continue;
        expect(one.told).toEqual(one.whole);
        live.delete(step.call);
        await rig.engine.close(step.call);
      }
    }
    expect(parks).toBeGreaterThan(100);
    expect(rig.engine.server()).toMatchObject({ failedCalls: 0 });
    expect(rig.engine.server().failures).toBeGreaterThan(5);
  });
});
