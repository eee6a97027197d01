/**
 * Which calls the next step advances, and whose context makes room. The plan decides; this only applies it to what
 * can run right now, so that the engine never waits for the scheduler.
 */

export interface Candidate {
  /** It can be stepped now. */
  ready: boolean;
  /** It will be ready in a moment: its slot is kept for it. */
  comes: boolean;
  /** Tokens whose KV is on the engine. */
  contextTokens: number;
  /** Context that it needs to take part in a step. */
  neededTokens: number;
}

/** The calls of a plan that are held and not ended, in the plan's order. */
export interface Candidates<C extends Candidate> {
  /** Length of the plan's `run`: a slot whose call has ended is filled, a batch is never made larger than planned. */
  slots: number;
  run: C[];
  reserve: C[];
  keep: C[];
}

export interface BatchLimits {
  batchCallsMax: number;
  residentCallsMax: number;
  kvBlocks: number;
  blockTokens: number;
}

/**
 * Slots go to `run`, then to `reserve`, then to parked calls, in the plan's order; a call that does not fit is passed
 * over. Contexts that are not in the batch stay while there is room, most valuable first; the others are evicted.
 */
export function chooseBatch<C extends Candidate>(
  { slots, run, reserve, keep }: Candidates<C>,
  limits: BatchLimits,
): { batch: C[]; evict: C[] } {
  const room = new Room(limits);
  const batch: C[] = [];
  const rest: C[] = [];
  let free = Math.min(slots, limits.batchCallsMax);
  const offer = (call: C, waitsFor: boolean) => {
    if (free > 0 && call.ready && room.take(call.neededTokens)) {
      batch.push(call);
      free--;
      return;
    }
    // Nothing is parked in place of a call that is on its way, or a short fetch would start somebody else's prompt.
    if (free > 0 && waitsFor && call.comes) free--;
    rest.push(call);
  };
  for (const call of run) offer(call, true);
  for (const call of reserve) offer(call, true);
  for (const call of keep) offer(call, false);
  const evict = rest.filter((call) => call.contextTokens > 0 && !room.take(call.contextTokens));
  return { batch, evict: evict.reverse() };
}

/** What is left of the engine's contexts. */
class Room {
  #calls: number;
  #blocks: number;
  readonly #limits: BatchLimits;

  constructor(limits: BatchLimits) {
    this.#calls = limits.residentCallsMax;
    this.#blocks = limits.kvBlocks;
    this.#limits = limits;
  }

  take(tokens: number): boolean {
    // A call that fills the whole engine must still get its last token.
    const blocks = Math.min(Math.ceil(tokens / this.#limits.blockTokens), this.#limits.kvBlocks);
    if (this.#calls < 1 || this.#blocks < blocks) return false;
    this.#calls--;
    this.#blocks -= blocks;
    return true;
  }
}
