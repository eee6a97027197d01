/** An engine of one machine, without time: what the machine makes of its contexts is checked with each effect. */
import type { EngineInfo, Plan } from "@autellix/protocol";
import type { Effect, Happening, SteppedCall } from "../../src/events.ts";
import { info } from "./rig.ts";

type Of<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

interface OnEngine {
  key: string;
  prompt: number;
  done: number;
  length: number;
  context: number;
  host: number;
  cached: number;
  state: "open" | "retained";
  /** In the last step, and not parked since. */
  runs: boolean;
  /** The machine has heard that it cannot be stopped. */
  stays: boolean;
}

const TOKENS_MAX = 30;
const SLICE_TOKENS = 10;
const BLOCK_BYTES = 1_000;

/** Room for about a quarter of the calls of a world. */
export const tightInfo: EngineInfo = {
  ...info,
  preemption: "swap",
  residentCallsMax: 5,
  kvBlocks: 7,
  hostBlocks: 8,
  retains: true,
};

export class FakeEngine {
  readonly calls = new Map<number, OnEngine>();
  readonly #tell: (happening: Happening) => void;
  readonly #refuses: () => boolean;
  #stepping = false;
  readonly #moving = new Set<number>();
  /** Ended calls that the engine closed by itself, before the machine knew. */
  readonly #notKept = new Set<number>();
  /** The plan in force. */
  plan: Plan | undefined;
  readonly counts = { outs: 0, ins: 0, bytes: 0, cached: 0 };

  /** @param refuses whether this transfer is not made. */
  constructor(tell: (happening: Happening) => void, refuses: () => boolean) {
    this.#tell = tell;
    this.#refuses = refuses;
  }

  get counters() {
    const { outs, ins, bytes } = this.counts;
    return {
      steps: 1,
      stepCalls: 1,
      busyMs: 1,
      tokens: 1,
      batchMax: 1,
      swapOuts: outs,
      swapIns: ins,
      swapBytes: bytes,
    };
  }

  /** @returns whether it was an effect on the engine. */
  carryOut(effect: Effect): boolean {
    switch (effect.kind) {
      case "open":
        this.#open(effect);
        break;
      case "step":
        this.#step(effect.ids);
        break;
      case "park":
        this.#own(effect.id).runs = false;
        this.#tell({ kind: "parked", id: effect.id, preemptible: true, context: this.#place(effect.id) });
        break;
      case "swapOut":
      case "swapIn":
        this.#swap(effect);
        break;
      case "evict":
        Object.assign(this.#own(effect.id), { context: 0, host: 0 });
        break;
      case "retain":
        this.#retain(effect.id);
        break;
      case "close":
        if (!this.#notKept.has(effect.id)) this.#own(effect.id);
        this.calls.delete(effect.id);
        break;
      default:
        return false;
    }
    this.#check();
    return true;
  }

  /** An answer was delivered. */
  answered(happening: Happening): void {
    if (happening.kind === "swapped") this.#moving.delete(happening.id);
    if (happening.kind !== "stepped") return;
    this.#stepping = false;
    for (const { id, preemptible } of happening.calls) {
      const call = this.calls.get(id);
      if (call) call.stays = !preemptible;
    }
  }

  /** Between two reactions, while nothing is under way: nobody runs on unseen. */
  checkRest(): void {
    if (this.#stepping || this.#moving.size > 0) return;
    for (const { key, runs, state } of this.calls.values())
      if (runs && state === "open") throw new Error(`${key} was in the last step and is not parked`);
  }

  #own(id: number): OnEngine {
    const call = this.calls.get(id);
    if (call === undefined) throw new Error(`call ${id} is not on the engine`);
    return call;
  }

  #place(id: number) {
    const { context: contextTokens, host: hostTokens } = this.#own(id);
    return { contextTokens, hostTokens };
  }

  #open({ id, key, forcedIds, continues }: Of<"open">): void {
    const number = Number(key.replace(/\D/g, ""));
    const length = 1 + ((key.length * 7 + number) % TOKENS_MAX);
    const call: OnEngine = {
      ...{ key, prompt: 20 + number, done: forcedIds.length, length, context: 0, host: 0, cached: 0 },
      ...{ state: "open", runs: false, stays: false },
    };
    if (continues !== undefined) this.#takeOver(call, continues);
    this.calls.set(id, call);
    const { prompt: promptTokens, cached: cachedTokens } = call;
    this.#tell({ kind: "opened", id, promptTokens, cachedTokens, forcedText: "", context: this.#place(id) });
  }

  #takeOver(call: OnEngine, endedId: number): void {
    const ended = this.#own(endedId);
    if (ended.state !== "retained") throw new Error(`${call.key} goes on from ${ended.key}, which is not retained`);
    if (this.#moving.has(endedId)) throw new Error(`${call.key} goes on from ${ended.key}, which is being moved`);
    call.cached = Math.min(call.prompt - 1, ended.context + ended.host);
    if (ended.context > 0) call.context = call.cached;
    else call.host = call.cached;
    this.counts.cached += call.cached;
    this.calls.delete(endedId);
  }

  #retain(id: number): void {
    const call = this.#own(id);
    if (call.done < call.length) throw new Error(`${call.key} has not ended`);
    const kept = !this.#refuses();
    const context = this.#place(id);
    if (kept) Object.assign(call, { state: "retained", runs: false, stays: false });
    else {
      this.calls.delete(id);
      this.#notKept.add(id);
    }
    this.#tell({ kind: "retained", id, kept, context });
  }

  #swap({ kind, id }: Of<"swapOut" | "swapIn">): void {
    const call = this.calls.get(id);
    if (this.#stepping) throw new Error("a transfer beside a step");
    if (this.#moving.has(id)) throw new Error("two transfers of one context");
    this.#moving.add(id);
    const way = kind === "swapOut" ? "out" : "in";
    // Closed before the machine knew: it was not retained.
    const tokens = call === undefined ? 0 : way === "out" ? call.context : call.host;
    if (call && tokens === 0) throw new Error(`${call.key} has nothing to ${kind}`);
    const moves = call !== undefined && !this.#refuses();
    if (call && moves) Object.assign(call, { context: way === "in" ? tokens : 0, host: way === "out" ? tokens : 0 });
    else if (call && way === "in") call.host = 0;
    const bytes = blocks(tokens) * BLOCK_BYTES;
    if (moves) {
      this.counts[way === "out" ? "outs" : "ins"]++;
      this.counts.bytes += bytes;
    }
    const context = call ? this.#place(id) : { contextTokens: 0, hostTokens: 0 };
    const swap = moves ? { tokens, bytes, durationMs: 1 } : undefined;
    this.#tell({ kind: "swapped", id, way, swap, context, counters: this.counters });
  }

  #step(ids: readonly number[]): void {
    if (this.#stepping) throw new Error("two steps at once");
    if (this.#moving.size > 0) throw new Error("a step while contexts are moved");
    if (ids.length === 0 || ids.length > info.batchCallsMax) throw new Error(`a batch of ${ids.length}`);
    if (new Set(ids).size !== ids.length) throw new Error("a call is twice in a batch");
    this.#checkPlanned(ids);
    for (const [id, call] of this.calls) {
      if (ids.includes(id)) continue;
      if (call.runs && call.state === "open") throw new Error(`${call.key} leaves the batch and is not parked`);
      if (call.stays) throw new Error(`${call.key} cannot be stopped and leaves the batch`);
    }
    this.#stepping = true;
    let slice = SLICE_TOKENS;
    const calls = ids.map((id): SteppedCall => {
      const call = this.#own(id);
      if (call.state !== "open") throw new Error(`${call.key} has ended`);
      if (call.host > 0) throw new Error(`${call.key} is stepped while it lies in the host tier`);
      call.runs = true;
      const missing = call.prompt + call.done - call.context;
      const prefilled = missing > 1 ? Math.min(slice, missing) : 0;
      if (missing > 1) slice -= prefilled;
      call.context += missing > 1 ? prefilled : missing;
      const ends = call.done >= call.length;
      const tokens = !ends && call.context === call.prompt + call.done ? 1 : 0;
      call.done += tokens;
      return {
        id,
        ...{
          promptTokens: call.prompt,
          contextTokens: call.context,
          completionTokens: call.done,
          prefilledTokens: prefilled,
        },
        ...{ cachedTokens: call.cached, preemptible: !(isUnstoppable(call.key) && call.done > 2) },
        ...{ tokens, ids: tokens > 0 ? [call.done - 1] : [], text: tokens > 0 ? "x" : "" },
        ...(call.done >= call.length ? { finish: "stop" as const } : {}),
      };
    });
    this.#tell({ kind: "stepped", durationMs: 3, calls, counters: this.counters });
  }

  /** Only what the plan names is advanced, and no more than it runs, but for what cannot be stopped. */
  #checkPlanned(ids: readonly number[]): void {
    const { run = [], reserve = [], keep = [] } = this.plan ?? {};
    const named = new Set([...run, ...reserve, ...keep].map(({ call }) => call));
    for (const id of ids) {
      const { key } = this.#own(id);
      if (!named.has(key)) throw new Error(`${key} is stepped and in no plan`);
    }
    const staying = [...this.calls.values()].filter((call) => call.stays).length;
    if (ids.length > Math.max(run.length, staying)) throw new Error(`a batch of ${ids.length}, planned ${run.length}`);
  }

  #check(): void {
    const used = { contexts: 0, engine: 0, host: 0 };
    for (const { key, context, host } of this.calls.values()) {
      if (context > 0 && host > 0) throw new Error(`${key} lies in two places`);
      if (context > 0) used.contexts++;
      used.engine += blocks(context);
      used.host += blocks(host);
    }
    const { residentCallsMax, kvBlocks, hostBlocks = 0 } = tightInfo;
    if (used.contexts > residentCallsMax) throw new Error(`${used.contexts} contexts are resident`);
    if (used.engine > kvBlocks) throw new Error(`${used.engine} of ${kvBlocks} blocks`);
    if (used.host > hostBlocks) throw new Error(`${used.host} of ${hostBlocks} host blocks`);
  }
}

function blocks(tokens: number): number {
  return Math.ceil(tokens / tightInfo.blockTokens);
}

/** Two of a world's calls: both fit on the engine at once. */
function isUnstoppable(key: string): boolean {
  return key.startsWith("t/c4") || key.startsWith("t/c8");
}
