/**
 * NATS, engine, frontend and scheduler of one machine, all drawn from a seed: answers come in any order, late, or say
 * that nobody answered. What must never happen is checked on every effect.
 */
import { encode, type HaveAnswer, type PlanCall, type StoredRecord, type TokenItem } from "@autellix/protocol";
import type { Effect, Happening } from "../../src/events.ts";
import { entry, INBOX, info, Rig } from "./rig.ts";

type Of<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

interface EngineState {
  key: string;
  prompt: number;
  done: number;
  length: number;
  context: number;
}

const TOKENS_MAX = 12;

/** A small generator with a seed (mulberry32). @returns 0 ≤ x < 1 */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class World {
  readonly rig = new Rig({ info: { ...info, residentCallsMax: 5 } });
  readonly #random: () => number;
  /** Answers under way. */
  readonly #pending: Happening[] = [];
  readonly #engine = new Map<number, EngineState>();
  readonly #records = new Map<string, StoredRecord>();
  readonly #seen = new Map<string, number>();
  #seq = 100;
  /** No loss, no delay from here on. */
  calm = false;
  /** By call key: the attempt that may run. */
  readonly calls = new Map<string, { attempt: number; fence: number }>();

  constructor(seed: number) {
    this.#random = random(seed);
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }

  pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)];
  }

  terminal(key: string): StoredRecord | undefined {
    const record = this.#records.get(key);
    return record?.head.kind === "outcome" ? record : undefined;
  }

  /** Nothing is under way, on the engine or anywhere else. */
  get idle(): boolean {
    return this.#pending.length === 0 && this.#engine.size === 0;
  }

  /** One more random thing happens. */
  next(): void {
    const roll = this.calm ? 0 : this.#random();
    if (roll < 0.75 && this.#pending.length > 0) {
      const index = this.calm ? 0 : Math.floor(this.#random() * this.#pending.length);
      const [happening] = this.#pending.splice(index, 1);
      if (happening) this.#carryOut(this.rig.happen(happening, Math.floor(this.#random() * 5)));
    } else if (roll < 0.85) this.#carryOut(this.rig.pass(Math.floor(this.#random() * 400)));
    else this.plan();
  }

  /** Time passes until every pause is over. */
  wait(): void {
    this.#carryOut(this.rig.pass(1_000));
  }

  /** A plan in which any call is anywhere, or nowhere. */
  plan(): void {
    const lists = { run: [] as PlanCall[], reserve: [] as PlanCall[], keep: [] as PlanCall[] };
    const cancel: { call: string; attempt: number; cause: "client" }[] = [];
    for (const key of this.calls.keys()) this.#place(key, lists, cancel);
    const fences = (this.rig.reports(this.rig.all).at(-1)?.fenced ?? []).map(({ call, attempt }) => ({
      call,
      attempt,
      fence: this.terminal(call) || this.chance(0.5) ? null : (this.#records.get(call)?.seq ?? 0),
    }));
    this.#carryOut(this.rig.plan({ ...lists, cancel, fences }));
  }

  #place(
    key: string,
    lists: Record<"run" | "reserve" | "keep", PlanCall[]>,
    cancel: { call: string; attempt: number; cause: "client" }[],
  ): void {
    const call = this.calls.get(key);
    if (call === undefined) return;
    if (!this.calm && this.chance(0.04) && !this.terminal(key)) {
      call.attempt++;
      call.fence = this.#store(key, {
        kind: "marker",
        attempt: call.attempt,
        epoch: 1,
        engine: "e2",
        cause: "engine_lost",
        crashes: 0,
      });
    }
    if (!this.calm && this.chance(0.03)) cancel.push({ call: key, attempt: call.attempt, cause: "client" });
    const list = this.calm ? "run" : this.pick(["run", "run", "reserve", "keep", "none"] as const);
    if (list === undefined || list === "none" || (this.calm && this.terminal(key))) return;
    const reply = key.endsWith("i") ? INBOX : undefined;
    lists[list].push(entry(key, { fence: call.fence, ...(reply ? { reply } : {}) }, call.attempt));
  }

  #store(key: string, head: StoredRecord["head"], body: Uint8Array = new Uint8Array()): number {
    this.#seq++;
    this.#records.set(key, { seq: this.#seq, head, body });
    return this.#seq;
  }

  #carryOut(effects: Effect[]): void {
    for (const effect of effects) this.#one(effect);
  }

  #one(effect: Effect): void {
    switch (effect.kind) {
      case "fetch":
        this.#fetch(effect);
        return;
      case "askHave":
        this.#pending.push({ kind: "haveAnswered", id: effect.id, answer: this.#have(effect.call) });
        return;
      case "open":
        this.#open(effect);
        return;
      case "evict": {
        const call = this.#onEngine(effect.id);
        call.context = 0;
        return;
      }
      case "close":
        this.#onEngine(effect.id);
        this.#engine.delete(effect.id);
        return;
      case "step":
        this.#step(effect.ids);
        return;
      case "writeOutcome":
        this.#write(effect);
        return;
      case "readOutcome":
        this.#pending.push({ kind: "outcomeRead", id: effect.id, result: this.#read(this.#keyOf(effect.address)) });
        return;
      case "requestEnd":
        if (!this.terminal(effect.call)) throw new Error(`${effect.call} has an end, but no record`);
        this.#pending.push({ kind: "endAnswered", id: effect.id, confirmed: this.calm || this.chance(0.5) });
        return;
      case "ping":
        this.#pending.push({ kind: "pingAnswered", frontend: effect.frontend, answered: true });
        return;
      case "send":
        this.#tokens(effect.message as { kind?: string; items?: TokenItem[] });
    }
  }

  #keyOf({ tenant, callId }: { tenant: string; callId: string }): string {
    return `${tenant}/${callId}`;
  }

  #read(key: string) {
    if (!this.calm && this.chance(0.2)) return { kind: "unknown" } as const;
    const record = this.#records.get(key);
    return record ? ({ kind: "found", record } as const) : ({ kind: "none" } as const);
  }

  #fetch({ id, address }: Of<"fetch">): void {
    const key = this.#keyOf(address);
    const bytes = encode({ messages: [{ role: "user", content: key }] }, "json");
    const body =
      !this.calm && this.chance(0.2)
        ? ({ kind: "unknown" } as const)
        : ({ kind: "found", bytes, encoding: undefined } as const);
    this.#pending.push({ kind: "fetched", id, body, outcome: this.#read(key) });
  }

  #have(key: string): HaveAnswer | undefined {
    if (!this.calm && this.chance(0.3)) return undefined;
    const count = this.#seen.get(key) ?? 0;
    return { state: "live", count, ids: Array.from({ length: count }, (_, i) => i) };
  }

  #open({ id, key, forcedIds }: Of<"open">): void {
    const length = 1 + ((key.length * 7 + Number(key.replace(/\D/g, ""))) % TOKENS_MAX);
    const seen = this.#seen.get(key) ?? 0;
    if (key.endsWith("f") && (this.calls.get(key)?.attempt ?? 0) > 1 && forcedIds.length !== seen) {
      throw new Error(`${key} resumes from ${forcedIds.length}, its frontend has ${seen}`);
    }
    this.#engine.set(id, { key, prompt: 20, done: forcedIds.length, length, context: 0 });
    this.#pending.push({ kind: "opened", id, promptTokens: 20, forcedText: "" });
  }

  #onEngine(id: number): EngineState {
    const call = this.#engine.get(id);
    if (call === undefined) throw new Error(`call ${id} is not on the engine`);
    return call;
  }

  #step(ids: readonly number[]): void {
    if (this.#pending.some((happening) => happening.kind === "stepped")) throw new Error("two steps at once");
    if (ids.length === 0 || ids.length > info.batchCallsMax) throw new Error(`a batch of ${ids.length}`);
    if (new Set(ids).size !== ids.length) throw new Error("a call is twice in a batch");
    const batch = ids.map((id) => ({ id, call: this.#onEngine(id) }));
    for (const { call } of batch) call.context = Math.max(call.context, 1);
    const resident = [...this.#engine.values()].filter((call) => call.context > 0).length;
    if (resident > 5) throw new Error(`${resident} contexts are resident`);
    const calls = batch.map(({ id, call }) => {
      call.context = call.prompt + call.done;
      const finished = call.done >= call.length;
      if (!finished) call.done++;
      const tokens = finished ? 0 : 1;
      return {
        id,
        contextTokens: call.context,
        completionTokens: call.done,
        tokens,
        ids: finished ? [] : [call.done - 1],
        text: finished ? "" : "x",
        ...(call.done >= call.length ? { finish: "stop" as const } : {}),
      };
    });
    const counters = { steps: 1, stepCalls: 1, busyMs: 1, tokens: 1, batchMax: 1 };
    this.#pending.push({ kind: "stepped", durationMs: 3, calls, counters });
  }

  #write({ id, address, head, body, fence }: Of<"writeOutcome">): void {
    const key = this.#keyOf(address);
    const last = this.#records.get(key)?.seq ?? 0;
    if (last !== fence) {
      this.#pending.push({ kind: "outcomeWritten", id, result: { kind: "refused" } });
      return;
    }
    if (!this.calm && this.chance(0.1)) {
      this.#pending.push({ kind: "outcomeWritten", id, result: { kind: "unknown" } });
      return;
    }
    if (this.terminal(key)) throw new Error(`${key} has two outcomes`);
    const seq = this.#store(key, head, body);
    const heard = this.calm || this.chance(0.8);
    this.#pending.push({ kind: "outcomeWritten", id, result: heard ? { kind: "stored", seq } : { kind: "unknown" } });
  }

  #tokens(message: { kind?: string; items?: TokenItem[] }): void {
    if (message.kind !== "tokens") return;
    for (const { call, index, count } of message.items ?? []) {
      // As a frontend does: what it has is dropped, what is ahead is a gap.
      const seen = this.#seen.get(call) ?? 0;
      if (index > seen) throw new Error(`${call}: token ${index} after ${seen}`);
      this.#seen.set(call, Math.max(seen, index + count));
    }
  }
}
