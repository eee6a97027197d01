/**
 * How long programs take, for people: from their first call's acceptance to their last call's end, whole and per
 * generated token, as the paper measures it (§6). A program is over when somebody ends it, else when it has been
 * quiet for a while; one that goes on later is counted as another.
 */
import type { CallId, Millis, ProgramId } from "@autellix/core";
import { Buckets, PROGRAM_BOUNDS_S, TOKEN_BOUNDS_S } from "@autellix/runtime";

/** Longer than tools take mostly, short enough to see today's latency today. */
export const QUIET_MS = 60_000;
/** Programs followed at once; beyond, the one that was heard of longest ago is not counted. */
export const FOLLOWED_PROGRAMS_MAX = 100_000;
/** Programs looked at in one sweep. */
const SWEEP_LOOKS_MAX = 200;

interface Followed {
  id: ProgramId;
  /** It named no program: the call is one of its own. */
  alone: boolean;
  startedAt: Millis;
  /** End of its last call; undefined before the first. */
  endedAt: Millis | undefined;
  /** Last arrival or end. */
  heardAt: Millis;
  activeCalls: number;
  /** `NaN`: an earlier leader saw some of them. */
  tokens: number;
  /** Nothing comes after its active calls. */
  closed: boolean;
}

export class ProgramLatency {
  readonly latency = new Buckets(PROGRAM_BOUNDS_S);
  readonly perToken = new Buckets(TOKEN_BOUNDS_S);
  /** The one that was heard of longest ago comes first. */
  readonly #programs = new Map<ProgramId, Followed>();
  readonly #byCall = new Map<CallId, Followed>();

  /** A program whose past an earlier leader saved. */
  restored(id: ProgramId, startedAt: Millis, at: Millis): void {
    this.#follow({ ...fresh(id, false, startedAt, at), tokens: Number.NaN });
  }

  arrived(call: CallId, id: ProgramId, alone: boolean, arrivedAt: Millis, at: Millis): void {
    if (this.#byCall.has(call)) return;
    const program = this.#programs.get(id) ?? fresh(id, alone, arrivedAt, at);
    program.activeCalls++;
    program.heardAt = at;
    this.#byCall.set(call, program);
    this.#follow(program);
  }

  /** @param tokens that it generated; undefined when it did not run to its end. */
  ended(call: CallId, tokens: number | undefined, at: Millis): void {
    const program = this.#byCall.get(call);
    if (!program) return;
    this.#byCall.delete(call);
    program.activeCalls--;
    program.heardAt = at;
    if (tokens !== undefined) {
      program.tokens += tokens;
      program.endedAt = at;
    }
    if (program.activeCalls === 0 && (program.alone || program.closed)) this.#over(program);
  }

  closed(id: ProgramId): void {
    const program = this.#programs.get(id);
    if (!program) return;
    program.closed = true;
    if (program.activeCalls === 0) this.#over(program);
  }

  /** Programs that have been quiet for `QUIET_MS` are over. O(1) for each, and never more than a few at once. */
  sweep(at: Millis): void {
    let looks = 0;
    for (const program of this.#programs.values()) {
      if (at - program.heardAt < QUIET_MS || ++looks > SWEEP_LOOKS_MAX) return;
      if (program.activeCalls === 0) {
        this.#over(program);
        continue;
      }
      // Its calls wait for long: looked at again later.
      program.heardAt = at;
      this.#follow(program);
    }
  }

  #follow(program: Followed): void {
    this.#programs.delete(program.id);
    this.#programs.set(program.id, program);
    if (this.#programs.size <= FOLLOWED_PROGRAMS_MAX) return;
    for (const oldest of this.#programs.keys()) {
      this.#programs.delete(oldest);
      return;
    }
  }

  #over(program: Followed): void {
    if (this.#programs.get(program.id) === program) this.#programs.delete(program.id);
    if (program.endedAt === undefined) return;
    const seconds = Math.max(0, program.endedAt - program.startedAt) / 1_000;
    this.latency.add(seconds);
    if (program.tokens > 0) this.perToken.add(seconds / program.tokens);
  }
}

function fresh(id: ProgramId, alone: boolean, startedAt: Millis, at: Millis): Followed {
  return { id, alone, startedAt, endedAt: undefined, heardAt: at, activeCalls: 0, tokens: 0, closed: false };
}
