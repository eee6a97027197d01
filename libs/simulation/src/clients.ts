/** The clients: they run programs, send each call when its parents have ended and its interrupt is over, and count. */
import type { ArrivedCall, CallId, Millis, ProgramId } from "@autellix/core";
import { callIdOf, SimCall, SimProgram } from "./calls.ts";
import { type CallResult, callResult, type ProgramResult, programResult } from "./results.ts";
import type { SimulationSpec } from "./simulation-spec.ts";
import { workOf } from "./srpt.ts";

/** What clients ask of the world around them. */
export interface ClientWorld {
  programArrivesAt(at: Millis, index: number): void;
  callArrivesAt(at: Millis, program: SimProgram, index: number): void;
  programEnded(program: SimProgram): void;
}

export class Clients {
  /** Calls that have arrived and not ended. */
  readonly calls = new Map<CallId, SimCall>();
  readonly callResults: CallResult[] = [];
  offeredTokens = 0;
  completedTokens = 0;
  private readonly spec: SimulationSpec;
  private readonly world: ClientWorld;
  private readonly programs = new Map<ProgramId, SimProgram>();
  private readonly results: ProgramResult[] = [];
  private programsLeft: number;
  private awaitedLeft: number;
  private seq = 0;

  constructor(spec: SimulationSpec, world: ClientWorld) {
    this.spec = spec;
    this.world = world;
    this.programsLeft = spec.programs.length;
    const { untilEnded } = spec;
    this.awaitedLeft = untilEnded ? untilEnded.to - untilEnded.from : Number.POSITIVE_INFINITY;
  }

  /** Whether all programs have ended, or all that are awaited. */
  get areDone(): boolean {
    return this.programsLeft === 0 || this.awaitedLeft === 0;
  }

  /** The first program is on its way; each one that arrives announces the next. */
  start(): void {
    this.announce(0);
  }

  programArrives(index: number): void {
    this.announce(index + 1);
    const spec = this.spec.programs[index];
    if (!spec) throw new RangeError(`no program ${index}`);
    const program = new SimProgram(index, spec);
    this.programs.set(program.id, program);
    for (const [call, { decodeTokens, parents, gapMs, arrivesMs }] of spec.calls.entries()) {
      this.offeredTokens += decodeTokens;
      program.remainingMs += this.workOf(program, call);
      const after = arrivesMs ?? (parents.length === 0 ? gapMs : undefined);
      if (after !== undefined) this.world.callArrivesAt(program.arrivedAt + after, program, call);
    }
  }

  /** @returns the call as the queue shows it. */
  callArrives(program: SimProgram, index: number, at: Millis): ArrivedCall {
    const spec = program.spec.calls[index];
    if (!spec) throw new RangeError(`program ${program.index} has no call ${index}`);
    const call = new SimCall(program, index, at);
    program.calls[index] = call;
    this.calls.set(call.id, call);
    return {
      id: call.id,
      seq: ++this.seq,
      program: program.id,
      ...(spec.thread === undefined ? {} : { thread: spec.thread }),
      ...(spec.parents.length === 0 ? {} : { parents: spec.parents.map((parent) => callIdOf(program, parent)) }),
      arrivedAt: at,
      // Nobody gives up in the lab.
      deadlineAt: Number.POSITIVE_INFINITY,
      promptTokens: call.promptTokens,
    };
  }

  /** @param engine index of the engine that the call ended on. */
  callEnds(call: SimCall, engine: number, at: Millis): void {
    const { program } = call;
    const { calls } = program.spec;
    this.calls.delete(call.id);
    this.completedTokens += calls[call.index]?.decodeTokens ?? 0;
    program.remainingMs -= this.workOf(program, call.index);
    program.endedCalls++;
    if (this.spec.keepCalls) this.callResults.push(callResult(call, engine));
    for (const child of program.children[call.index] ?? []) {
      const left = (program.parentsLeft[child] ?? 0) - 1;
      program.parentsLeft[child] = left;
      const { gapMs = 0, arrivesMs } = calls[child] ?? {};
      if (left === 0 && arrivesMs === undefined) this.world.callArrivesAt(at + gapMs, program, child);
    }
    if (program.endedCalls === calls.length) this.programEnds(program, at);
  }

  /** Work that clairvoyant SRPT sees ahead of a program. */
  remainingMs(id: ProgramId): number {
    return this.programs.get(id)?.remainingMs ?? 0;
  }

  /** Of all programs that have arrived, those that have not ended included. */
  programResults(at: Millis): ProgramResult[] {
    const { preset, system } = this.spec;
    const running = [...this.programs.values()].map((program) => programResult(program, at, preset.cost, system));
    return [...this.results, ...running].sort((a, b) => a.index - b.index);
  }

  private announce(index: number): void {
    const program = this.spec.programs[index];
    if (program) this.world.programArrivesAt(program.arrivesAtMs, index);
  }

  private programEnds(program: SimProgram, at: Millis): void {
    program.endedAt = at;
    const { preset, system, untilEnded } = this.spec;
    this.results.push(programResult(program, at, preset.cost, system));
    this.programs.delete(program.id);
    this.programsLeft--;
    if (untilEnded && program.index >= untilEnded.from && program.index < untilEnded.to) this.awaitedLeft--;
    this.world.programEnded(program);
  }

  private workOf(program: SimProgram, call: number): number {
    const spec = program.spec.calls[call];
    return spec ? workOf(this.spec.preset.cost, spec, program.promptTokens[call] ?? 0) : 0;
  }
}
