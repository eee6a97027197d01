/**
 * Values by their id. What comes from outside names a call or a program by a fresh string, and with many of them queued
 * a `Map` pays for cache misses: it follows a chain, and looks into the string of each link. Here a look-up goes to one
 * place among hashes, and compares one string. It grows in small pieces, so that no input pays for moving a million
 * entries at once. The order of its values means nothing (S6).
 */

const SHARD_BITS = 6;
const PLACES_MIN = 8;
/**
 * Places that a look-up visits. Clients choose program ids, so they could choose many of one hash: what finds no place
 * goes to a `Map`, whose hashes nobody foresees.
 */
const PROBES_MAX = 64;
/** First letter of a page's `next`: its last value was found by its hash, or among those that found no place. */
const HASHED = "h";
const CROWDED = "c";

interface Identified {
  readonly id: string;
}

export class IdTable<T extends Identified> {
  size = 0;
  private readonly shards: readonly Shard<T>[];
  /** Those that found no place. */
  private readonly crowded = new Map<string, T>();

  constructor() {
    this.shards = Array.from({ length: 1 << SHARD_BITS }, () => new Shard<T>(this.crowded));
  }

  /** How many found no place among the others. */
  get crowdedCount(): number {
    return this.crowded.size;
  }

  get(id: T["id"]): T | undefined {
    const hash = hashOf(id);
    return this.shardOf(hash).get(id, hash) ?? (this.crowded.size > 0 ? this.crowded.get(id) : undefined);
  }

  has(id: T["id"]): boolean {
    return this.get(id) !== undefined;
  }

  /** Adds a value whose id is not there. */
  add(value: T): void {
    const hash = hashOf(value.id);
    this.shardOf(hash).add(value, hash);
    this.size++;
  }

  /** @returns whether the value was there. */
  delete(value: T): boolean {
    const hash = hashOf(value.id);
    const wasThere = this.shardOf(hash).delete(value, hash) || this.deleteCrowded(value);
    if (wasThere) this.size--;
    return wasThere;
  }

  *values(): Generator<T> {
    for (const shard of this.shards) yield* shard.values();
    yield* this.crowded.values();
  }

  /**
   * Some values in an order that nothing changes, by hash and id: whoever reads page after page sees each value once
   * that is there all the time. Costs O(max + size / 64).
   *
   * @param from `next` of the page before; the first page when it is absent.
   */
  page(from: string | undefined, max: number): { values: T[]; next: string | undefined } {
    const values: T[] = [];
    const isInCrowd = from?.startsWith(CROWDED) ?? false;
    const after = from?.slice(1);
    if (!isInCrowd) {
      const hash = after === undefined ? 0 : hashOf(after) >>> 0;
      for (let shard = hash >>> (32 - SHARD_BITS); shard < this.shards.length; shard++) {
        const rest = (this.shards[shard] as Shard<T>).after(after, hash);
        for (const value of rest) {
          if (values.length >= max) return { values, next: HASHED + (values.at(-1) as T).id };
          values.push(value);
        }
      }
    }
    const crowd = [...this.crowded.values()].sort(byId);
    for (const value of crowd) {
      if (isInCrowd && value.id <= (after as string)) continue;
      const last = values.at(-1);
      if (values.length >= max && last)
        return { values, next: (this.crowded.has(last.id) ? CROWDED : HASHED) + last.id };
      values.push(value);
    }
    return { values, next: undefined };
  }

  private deleteCrowded(value: T): boolean {
    return this.crowded.get(value.id) === value && this.crowded.delete(value.id);
  }

  private shardOf(hash: number): Shard<T> {
    return this.shards[hash >>> (32 - SHARD_BITS)] as Shard<T>;
  }
}

/** A value lies at the first free place from its hash on; at most half of the places are taken. */
class Shard<T extends Identified> {
  private readonly crowded: Map<string, T>;
  /** By place; 0: it is free. */
  private hashes = new Int32Array(PLACES_MIN);
  private held: (T | undefined)[] = new Array(PLACES_MIN);
  private count = 0;

  constructor(crowded: Map<string, T>) {
    this.crowded = crowded;
  }

  get(id: string, hash: number): T | undefined {
    const { hashes, held } = this;
    const mask = hashes.length - 1;
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      const place = (hash + probe) & mask;
      if (hashes[place] === 0) return undefined;
      if (hashes[place] === hash && held[place]?.id === id) return held[place];
    }
    return undefined;
  }

  add(value: T, hash: number): void {
    if (2 * this.count >= this.hashes.length) this.grow();
    this.put(value, hash);
  }

  delete(value: T, hash: number): boolean {
    const { hashes, held } = this;
    const mask = hashes.length - 1;
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      const place = (hash + probe) & mask;
      if (hashes[place] === 0) return false;
      if (hashes[place] !== hash || held[place] !== value) continue;
      this.free(place);
      this.count--;
      return true;
    }
    return false;
  }

  /** Those behind a hash and id, in this order; all of them when the id is absent. */
  after(id: string | undefined, hash: number): T[] {
    const found: { value: T; hash: number }[] = [];
    for (const [place, value] of this.held.entries()) {
      if (value === undefined) continue;
      const own = (this.hashes[place] as number) >>> 0;
      if (id === undefined || own > hash || (own === hash && value.id > id)) found.push({ value, hash: own });
    }
    return found.sort((a, b) => a.hash - b.hash || byId(a.value, b.value)).map(({ value }) => value);
  }

  *values(): Generator<T> {
    for (const value of this.held) if (value !== undefined) yield value;
  }

  private put(value: T, hash: number): void {
    const { hashes, held } = this;
    const mask = hashes.length - 1;
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      const place = (hash + probe) & mask;
      if (hashes[place] !== 0) continue;
      hashes[place] = hash;
      held[place] = value;
      this.count++;
      return;
    }
    this.crowded.set(value.id, value);
  }

  /** Those behind it that lie off their hash move up, so that a free place ends every search. */
  private free(place: number): void {
    const { hashes, held } = this;
    const mask = hashes.length - 1;
    let hole = place;
    for (let next = (hole + 1) & mask; hashes[next] !== 0; next = (next + 1) & mask) {
      const hash = hashes[next] as number;
      // How far it lies from where it would like to, and how far it is from the hole.
      if (((next - hash) & mask) < ((next - hole) & mask)) continue;
      hashes[hole] = hash;
      held[hole] = held[next];
      hole = next;
    }
    hashes[hole] = 0;
    held[hole] = undefined;
  }

  private grow(): void {
    const { hashes, held } = this;
    this.hashes = new Int32Array(2 * hashes.length);
    this.held = new Array(2 * hashes.length);
    this.count = 0;
    for (const [place, value] of held.entries()) if (value !== undefined) this.put(value, hashes[place] as number);
  }
}

function byId(a: Identified, b: Identified): number {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}

/** @returns a whole number of 32 bits, never 0. The same everywhere, and of no meaning. */
function hashOf(id: string): number {
  let hash = id.length;
  const whole = id.length & ~3;
  for (let i = 0; i < whole; i += 4) {
    const word =
      id.charCodeAt(i) | (id.charCodeAt(i + 1) << 8) | (id.charCodeAt(i + 2) << 16) | (id.charCodeAt(i + 3) << 24);
    hash = Math.imul(hash ^ word, 0x9e3779b1) ^ (hash >>> 13);
  }
  for (let i = whole; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash ^= hash >>> 13;
  return hash === 0 ? 1 : hash;
}
