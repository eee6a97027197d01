/** Watching every pool there is: they are keys of the bucket, written once each. */
import { JetStreamApiCodes, JetStreamApiError } from "@nats-io/jetstream";
import { keys } from "../subjects.ts";
import type { Bus } from "./bus.ts";
import { PoolWatch, type PoolWatchOptions } from "./pool-watch.ts";
import { readKeys } from "./state.ts";

const LOOK_MS = 3_000;
/** Pools that are watched at once. */
export const POOLS_WATCHED_MAX = 64;

/** Pools that a scheduler was ever started for, in order: none before the first one. @throws when NATS does not say. */
export async function listPools(bus: Bus): Promise<string[]> {
  try {
    const entries = await readKeys(bus, keys.pools);
    return entries.map(({ key }) => key.slice(keys.pool("").length)).sort();
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound) return [];
    throw error;
  }
}

export interface PoolsWatchOptions {
  /** Only these; default: all, those that come later, too. */
  pools?: readonly string[];
  /** For each pool. */
  watch?: (pool: string) => PoolWatchOptions;
  /** The list of pools could not be read. */
  onProblem?: (text: string) => void;
}

export class PoolsWatch {
  readonly pools = new Map<string, PoolWatch>();
  readonly #bus: Bus;
  readonly #options: PoolsWatchOptions;
  readonly #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(bus: Bus, options: PoolsWatchOptions = {}) {
    this.#bus = bus;
    this.#options = options;
    for (const pool of options.pools ?? []) this.#add(pool);
    if (options.pools !== undefined) return;
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
    void this.#look();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    for (const watch of this.pools.values()) watch.stop();
  }

  async #look(): Promise<void> {
    try {
      for (const pool of await listPools(this.#bus)) this.#add(pool);
    } catch (error) {
      // Looked for again.
      this.#options.onProblem?.(`pools could not be listed: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #add(pool: string): void {
    if (this.#stopped || this.pools.has(pool) || this.pools.size >= POOLS_WATCHED_MAX) return;
    this.pools.set(pool, new PoolWatch(this.#bus, pool, this.#options.watch?.(pool)));
  }
}
