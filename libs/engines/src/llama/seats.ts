/**
 * The library's sequences, and which place each has in llama.cpp's cache (decision 0035).
 *
 * llama.cpp takes sequences into one forward pass only while their places follow each other: a batch of the places 0 2 3
 * costs two passes, and one in falling order as many as it has sequences.
 */
import type { LlamaContext, LlamaContextSequence } from "node-llama-cpp";

export interface Seat {
  readonly sequence: LlamaContextSequence;
  /** From 0 on. */
  readonly place: number;
}

export class Seats {
  readonly size: number;
  readonly #context: LlamaContext;
  /** By place. */
  readonly #free: Seat[] = [];

  /** Takes all sequences of a context of which none was taken before: they come in the order of their places. */
  constructor(context: LlamaContext) {
    this.#context = context;
    this.size = context.totalSequences;
    for (let place = 0; place < this.size; place++) this.#free.push({ sequence: context.getSequence(), place });
  }

  /**
   * The free seat with which a batch needs the fewest passes.
   * @param places of the others in the batch
   * @throws Error when all are taken.
   */
  take(places: readonly number[]): Seat {
    const best = bestPlace(
      this.#free.map(({ place }) => place),
      places,
    );
    const [seat] = this.#free.splice(
      this.#free.findIndex(({ place }) => place === best),
      1,
    );
    if (seat === undefined) throw new Error(`no context is free: all ${this.size} are taken`);
    return seat;
  }

  /** Frees what the seat holds. The library gives out again what came back: all others are taken. */
  async giveBack({ sequence, place }: Seat): Promise<void> {
    await sequence.dispose();
    // Fewer when the library could not free it, which it has logged then.
    if (this.#context.sequencesLeft === 0) return;
    this.#free.push({ sequence: this.#context.getSequence(), place });
    this.#free.sort((a, b) => a.place - b.place);
  }
}

/** Forward passes that llama.cpp makes of a batch of sequences at these places, in rising order. */
export function passesOf(places: readonly number[]): number {
  const taken = new Set(places);
  let passes = 0;
  for (const place of taken) if (!taken.has(place - 1)) passes++;
  return passes;
}

/** The lowest of those with which the batch needs the fewest passes; undefined when none is free. */
export function bestPlace(free: readonly number[], places: readonly number[]): number | undefined {
  let best: { place: number; passes: number } | undefined;
  for (const place of free) {
    const passes = passesOf([...places, place]);
    if (best === undefined || passes < best.passes) best = { place, passes };
  }
  return best?.place;
}
