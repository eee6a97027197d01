/** Programs and calls as they are played: what the clients know, and what an engine has done so far. */
import {
  type CallId,
  callId,
  type EngineId,
  type Millis,
  type ProgramId,
  programId,
  type ReportedCall,
} from "@autellix/core";
import type { CacheNode } from "./prefix-cache.ts";
import { type CallSpec, type ProgramSpec, promptTokensOf } from "./program.ts";

/** Where the KV of a call's context lies. */
export type Place = "engine" | "host" | "none";

export class SimProgram {
  readonly index: number;
  readonly id: ProgramId;
  readonly spec: ProgramSpec;
  readonly arrivedAt: Millis;
  readonly promptTokens: readonly number[];
  /** Calls that have arrived, by their index. */
  readonly calls: (SimCall | undefined)[];
  /** Parents of each call that have not ended. */
  readonly parentsLeft: number[];
  /** Calls that wait for this one, by index. */
  readonly children: (readonly number[])[];
  endedCalls = 0;
  /** Ends that the core has not been told. */
  unreported = 0;
  endedAt: Millis | undefined;
  /** Work that clairvoyant SRPT sees ahead: of calls that have not ended. */
  remainingMs = 0;

  constructor(index: number, spec: ProgramSpec) {
    this.index = index;
    this.id = programId(`p${index}`);
    this.spec = spec;
    this.arrivedAt = spec.arrivesAtMs;
    this.promptTokens = promptTokensOf(spec);
    this.calls = spec.calls.map(() => undefined);
    this.parentsLeft = spec.calls.map((call) => call.parents.length);
    this.children = childrenOf(spec.calls);
  }
}

const NOBODY: readonly number[] = [];

function childrenOf(calls: readonly CallSpec[]): (readonly number[])[] {
  const children: number[][] = [];
  for (const [index, call] of calls.entries()) {
    for (const parent of call.parents) {
      if (!(parent >= 0 && parent < index)) throw new RangeError(`call ${index} cannot wait for call ${parent}`);
      const known = children[parent];
      if (known) known.push(index);
      else children[parent] = [index];
    }
  }
  return calls.map((_, index) => children[index] ?? NOBODY);
}

export class SimCall {
  readonly program: SimProgram;
  readonly index: number;
  readonly id: CallId;
  readonly arrivedAt: Millis;
  /** At least one token each: an empty prompt or answer takes a step all the same. */
  readonly promptTokens: number;
  readonly decodeTokens: number;
  engine: EngineId | undefined;
  dispatchedAt: Millis = 0;
  firstTokenAt: Millis = 0;
  endedAt: Millis | undefined;
  serviceMs: Millis = 0;

  // ── on its engine ──
  place: Place = "none";
  /** Tokens of its context whose KV exists, there or in host memory. */
  computed = 0;
  generated = 0;
  /** Prompt tokens that the running step computes. */
  slice = 0;
  /** Prefill of this residency has begun: the cache was asked. */
  begun = false;
  /** Prompt tokens that its first prefill found in the cache. */
  cachedTokens = 0;
  /** It was asked for those: later prefills are resumptions. */
  wasBegun = false;
  /** Blocks of its whole context, as the core counts them; 0 while it is not resident. */
  blocks = 0;
  /** The same, while an ended call's context is kept. */
  retainedBlocks = 0;
  /** Stamp of the last plan that named it. */
  planStamp = -1;
  /** An ended call of its program that keeps its context until this one takes it over. */
  continues: SimCall | undefined;

  // ── in the prefix cache; owned by prefix-cache.ts ──
  leaf: CacheNode | undefined;
  /** Nodes of its context that were not complete when it began, root side first, and the one it is filling. */
  path: CacheNode[] = NO_PATH;
  pathAt = 0;
  /** Blocks that are this call's alone. */
  privateBlocks = 0;

  /** What it is in a report; the core keeps none of it. */
  readonly reported: { -readonly [Key in keyof ReportedCall]: ReportedCall[Key] };

  constructor(program: SimProgram, index: number, arrivedAt: Millis) {
    this.program = program;
    this.index = index;
    this.id = callIdOf(program, index);
    this.arrivedAt = arrivedAt;
    this.promptTokens = Math.max(1, program.promptTokens[index] ?? 0);
    this.decodeTokens = Math.max(1, program.spec.calls[index]?.decodeTokens ?? 0);
    this.reported = { call: this.id, attempt: 1, serviceMs: 0, contextTokens: this.promptTokens };
  }

  get contextTokens(): number {
    return this.promptTokens + this.generated;
  }

  /** Tokens to compute before the next one comes out. */
  get missingTokens(): number {
    return this.promptTokens + this.generated - this.computed;
  }

  /** Its prompt, or what was lost of its context, has to be computed first. */
  get prefills(): boolean {
    return this.generated === 0 || this.promptTokens + this.generated - this.computed > 1;
  }
}

const NO_PATH: CacheNode[] = [];

export function callIdOf(program: SimProgram, index: number): CallId {
  return callId(`p${program.index}.${index}`);
}
