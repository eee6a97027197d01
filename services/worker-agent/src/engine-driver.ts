/** Carries effects out on the engine: steps and moves one after another, everything else as it comes. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Engine, EngineCall, StepResult } from "@autellix/engines";
import { callError, countersOf, forcedDeltasOf, placeOf, steppedCall } from "./engine-calls.ts";
import type { Effect, Happening } from "./events.ts";

type EngineEffectKind = "open" | "step" | "park" | "swapOut" | "swapIn" | "evict" | "retain" | "leave" | "close";
type EffectOf<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

export class EngineDriver {
  readonly #engine: Engine;
  readonly #tell: (happening: Happening) => void;
  readonly #fail: (error: unknown) => void;
  readonly #calls = new Map<number, EngineCall>();
  /** Closings under way: their room is free only behind them. */
  readonly #closing = new Set<Promise<void>>();
  /** One after another; never rejects. */
  #tail: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(engine: Engine, tell: (happening: Happening) => void, fail: (error: unknown) => void) {
    this.#engine = engine;
    this.#tell = tell;
    this.#fail = fail;
  }

  carryOut(effect: EffectOf<EngineEffectKind>): void {
    switch (effect.kind) {
      case "open":
        this.#open(effect).catch(this.#fail);
        return;
      case "close":
        this.#close(effect.id);
        return;
      case "step":
        this.#next(() => this.#step(effect.ids));
        return;
      case "swapOut":
      case "swapIn":
        this.#next(() => this.#swap(effect));
        return;
      default: {
        const { kind, id } = effect;
        // Closed meanwhile: nobody waits for an answer.
        this.#next(async () => {
          const call = this.#calls.get(id);
          if (call !== undefined || kind === "leave") await this.#onCall(kind, id, call);
        });
      }
    }
  }

  /** Behind what is under way. What the machine had left open is closed, and what opens later, as soon as it is open. */
  async closeAll(): Promise<void> {
    this.#closed = true;
    await this.#tail;
    for (const id of [...this.#calls.keys()]) this.#close(id);
    await Promise.all(this.#closing);
  }

  #next(operation: () => Promise<void>): void {
    this.#tail = this.#tail.then(operation).catch(this.#fail);
  }

  async #open({ id, key, chat, body, forcedIds, continues: endedId }: EffectOf<"open">): Promise<void> {
    const ended = endedId === undefined ? undefined : this.#calls.get(endedId);
    if (endedId !== undefined) this.#calls.delete(endedId);
    let call: EngineCall;
    try {
      call = await this.#engine.open({ key, chat, body, forcedIds, ...(ended ? { continues: ended } : {}) });
    } catch (error) {
      // Closing is idempotent: who owns it after a failure need not be known.
      if (ended) await this.#engine.close(ended);
      this.#tell({ kind: "openFailed", id, ...callError(error) });
      return;
    }
    if (this.#closed) {
      await this.#engine.close(call);
      return;
    }
    this.#calls.set(id, call);
    const { promptTokens, cachedTokens, forcedText } = call;
    const forcedDeltas = forcedDeltasOf(call);
    this.#tell({
      kind: "opened",
      ...{ id, promptTokens, cachedTokens, forcedText },
      ...(forcedDeltas ? { forcedDeltas } : {}),
      context: placeOf(call),
    });
  }

  #close(id: number): void {
    const call = this.#calls.get(id);
    // An ended call's context that the engine did not keep is closed before the machine knows.
    if (call === undefined) return;
    this.#calls.delete(id);
    // Not behind the queue of steps: the engine itself waits for the one that runs, and for no other.
    const closing = this.#engine.close(call).catch(this.#fail);
    this.#closing.add(closing);
    void closing.then(() => this.#closing.delete(closing));
  }

  async #step(ids: readonly number[]): Promise<void> {
    await Promise.all(this.#closing);
    // Closed while the step waited.
    const batch = ids.flatMap((id) => {
      const call = this.#calls.get(id);
      return call === undefined ? [] : [{ id, call }];
    });
    const result: StepResult =
      batch.length > 0 ? await this.#engine.step(batch.map(({ call }) => call)) : { durationMs: 0, calls: [] };
    // Whatever the engine costs, messages and timers get their turn between two steps.
    await nextTurn();
    const calls = result.calls.map((stepped, index) => steppedCall(batch[index]?.id ?? -1, stepped));
    const counters = countersOf(this.#engine.counters());
    this.#tell({ kind: "stepped", durationMs: result.durationMs, calls, counters });
  }

  async #swap({ kind, id }: EffectOf<"swapOut" | "swapIn">): Promise<void> {
    await Promise.all(this.#closing);
    const way = kind === "swapOut" ? "out" : "in";
    const call = this.#calls.get(id);
    const swap = call && (await (way === "out" ? this.#engine.swapOut(call) : this.#engine.swapIn(call)));
    const counters = countersOf(this.#engine.counters());
    this.#tell({ kind: "swapped", id, way, swap, context: placeOf(call), counters });
  }

  async #onCall(kind: "park" | "evict" | "retain" | "leave", id: number, call: EngineCall | undefined): Promise<void> {
    const engine = this.#engine;
    switch (kind) {
      case "park":
        // What a server has shown since the last step may have made it a call that cannot be stopped: it runs on.
        if (call?.preemptible) await engine.park(call);
        this.#tell({ kind: "parked", id, preemptible: call?.preemptible ?? true, context: placeOf(call) });
        return;
      case "evict":
        if (call?.preemptible) await engine.evict(call);
        return;
      case "retain": {
        const kept = call !== undefined && (await engine.retain(call));
        if (!kept) this.#calls.delete(id);
        this.#tell({ kind: "retained", id, kept, context: placeOf(call) });
        return;
      }
      case "leave":
        this.#calls.delete(id);
        if (call) await engine.leave(call);
        this.#tell({ kind: "left", id });
    }
  }
}
