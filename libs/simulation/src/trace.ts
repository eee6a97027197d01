/**
 * Real traffic as programs: what a frontend recorded (`@autellix/protocol/call-trace`) is played by the simulator.
 *
 * - *Closed loop* (default): a program's next call comes when what it waited for has ended, after the recorded
 *   interrupt. A policy that answers sooner is asked sooner, as in life.
 * - *Open loop*: every call comes when it came. For comparing the order of a live run with the simulator's.
 *
 * A trace shows times and sizes; who waited for whom is told only by clients that name parents. Else it is inferred:
 * calls that overlap in time are of different threads; a call waits for its thread's last call, and for calls that
 * had ended and that nothing else waited for (a join).
 */
import type { TracedCall } from "@autellix/protocol/call-trace";
import type { CallSpec, ProgramSpec } from "./program.ts";

export interface TracePrograms {
  /** By arrival, which counts from the first one. */
  programs: ProgramSpec[];
  /** Calls that generated nothing, and so cost an engine nothing: they are left out. */
  skippedCalls: number;
}

export type Loop = "closed" | "open";

/** @param calls by arrival, as `readCallTrace` gives them. */
export function programsOfTrace(calls: readonly TracedCall[], loop: Loop = "closed"): TracePrograms {
  const byProgram = new Map<string, TracedCall[]>();
  let skippedCalls = 0;
  for (const call of calls) {
    if (call.completionTokens === 0) {
      skippedCalls++;
      continue;
    }
    const known = byProgram.get(call.program);
    if (known) known.push(call);
    else byProgram.set(call.program, [call]);
  }
  let startMs = Number.POSITIVE_INFINITY;
  for (const [first] of byProgram.values()) startMs = Math.min(startMs, first?.arrivedAtMs ?? startMs);
  const programs = [...byProgram].map(([id, own]): ProgramSpec => {
    const arrivedAtMs = own[0]?.arrivedAtMs ?? 0;
    return {
      id,
      workload: "trace",
      arrivesAtMs: arrivedAtMs - startMs,
      // What programs have in common is not in a trace.
      sharedPrompt: "",
      sharedPromptTokens: 0,
      calls: new Program(own).specs(loop),
    };
  });
  return { programs, skippedCalls };
}

interface Traced {
  readonly call: TracedCall;
  readonly parents: readonly number[];
  readonly thread: string;
  readonly extends: number | undefined;
}

/** Reads one program's calls in the order of their arrival. */
class Program {
  readonly #calls: readonly TracedCall[];
  readonly #read: Traced[] = [];
  readonly #indexes = new Map<string, number>();
  /** Last call of each thread. */
  readonly #tips = new Map<string, number>();
  /** Calls that no later one waits for. */
  readonly #unawaited = new Set<number>();
  /** All calls by their ends, and how many of them had ended when the call that is being read arrived. */
  readonly #byEnd: readonly number[];
  #ended = 0;

  constructor(calls: readonly TracedCall[]) {
    this.#calls = calls;
    this.#byEnd = calls.map((_, index) => index).sort((a, b) => this.#endOf(a) - this.#endOf(b) || a - b);
    for (const [index, call] of calls.entries()) {
      while (this.#endOf(this.#byEnd[this.#ended]) <= call.arrivedAtMs && (this.#byEnd[this.#ended] ?? index) < index)
        this.#ended++;
      const traced = this.#place(call);
      for (const parent of traced.parents) this.#unawaited.delete(parent);
      this.#unawaited.add(index);
      this.#read.push(traced);
      this.#indexes.set(call.call, index);
      this.#tips.set(traced.thread, index);
    }
  }

  specs(loop: Loop): CallSpec[] {
    const startMs = this.#calls[0]?.arrivedAtMs ?? 0;
    return this.#read.map(({ call, parents, thread, extends: base }) => {
      const since = parents.reduce((max, parent) => Math.max(max, this.#endOf(parent)), startMs);
      return {
        parents,
        gapMs: call.arrivedAtMs - since,
        ...(loop === "open" ? { arrivesMs: call.arrivedAtMs - startMs } : {}),
        thread,
        extends: base,
        newPromptTokens: Math.max(1, call.promptTokens - (base === undefined ? 0 : this.#contextOf(base))),
        decodeTokens: call.completionTokens,
      };
    });
  }

  #place(call: TracedCall): Traced {
    const thread = call.thread ?? this.#threadFor(call);
    const tip = this.#tips.get(thread);
    const before = tip !== undefined && this.#endOf(tip) <= call.arrivedAtMs ? tip : undefined;
    const continues = before !== undefined && call.promptTokens >= this.#contextOf(before);
    return { call, thread, parents: this.#parentsOf(call, before), extends: continues ? before : undefined };
  }

  /** The thread whose context fits best into the prompt, or ended last; a new one when all are busy or longer. */
  #threadFor(call: TracedCall): string {
    let best: { thread: string; context: number; endedAtMs: number } | undefined;
    for (const [thread, tip] of this.#tips) {
      const [context, endedAtMs] = [this.#contextOf(tip), this.#endOf(tip)];
      if (endedAtMs > call.arrivedAtMs || context > call.promptTokens) continue;
      const isBetter = !best || context > best.context || (context === best.context && endedAtMs > best.endedAtMs);
      if (isBetter) best = { thread, context, endedAtMs };
    }
    if (best) return best.thread;
    let number = this.#tips.size + 1;
    while (this.#tips.has(`thread-${number}`)) number++;
    return `thread-${number}`;
  }

  /** @param before the thread's last call, if it had ended. */
  #parentsOf(call: TracedCall, before: number | undefined): readonly number[] {
    const hadEnded = (index: number) => this.#endOf(index) <= call.arrivedAtMs;
    const told = [...new Set(call.parents)].flatMap((name) => this.#indexes.get(name) ?? []).filter(hadEnded);
    if (told.length > 0) return told.sort((a, b) => a - b);
    const parents = new Set(before === undefined ? [] : [before]);
    for (const index of this.#unawaited) {
      if (!hadEnded(index)) continue;
      // Threads that have names are joined by the one that they came from, and by no other.
      const joins = call.thread === undefined || (before !== undefined && this.#descends(index, before));
      if (joins) parents.add(index);
    }
    if (parents.size > 0) return [...parents].sort((a, b) => a - b);
    // A thread that begins: what ended last has started it.
    const last = this.#byEnd[this.#ended - 1];
    return last === undefined ? [] : [last];
  }

  #descends(index: number, ancestor: number): boolean {
    const seen = new Set([index]);
    for (const one of seen) {
      if (one === ancestor) return true;
      if (one > ancestor) for (const parent of this.#read[one]?.parents ?? []) seen.add(parent);
    }
    return false;
  }

  #endOf(index: number | undefined): number {
    return (index === undefined ? undefined : this.#calls[index]?.endedAtMs) ?? Number.POSITIVE_INFINITY;
  }

  #contextOf(index: number): number {
    const call = this.#calls[index];
    return call ? call.promptTokens + call.completionTokens : 0;
  }
}
