/**
 * What a frontend knows of the pools: which serve a model, how full they are, and where a program's calls go.
 */
import type { Status } from "@autellix/protocol";
import { LRUCache } from "lru-cache";
import type { Failure } from "./events.ts";
import { type Limits, RETRY_AFTER_S } from "./limits.ts";

interface Heard {
  status: Status;
  atMs: number;
  /** Calls that this frontend has published since then: the status does not count them yet. */
  published: number;
}

export class Pools {
  readonly #models = new Map<string, readonly string[]>();
  readonly #heard = new Map<string, Heard>();
  /** Pool by tenant, program and model. */
  readonly #programs: LRUCache<string, string>;
  readonly #limits: Limits;
  #modelsRead = false;

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#programs = new LRUCache({ max: limits.programsMax });
  }

  modelSeen(model: string, pools: readonly string[] | undefined): void {
    if (pools && pools.length > 0) this.#models.set(model, pools);
    else this.#models.delete(model);
  }

  modelsRead(): void {
    this.#modelsRead = true;
  }

  statusSent(status: Status, atMs: number): void {
    const last = this.#heard.get(status.pool);
    // An old leader may still send for a moment after a take-over.
    if (last && status.epoch < last.status.epoch && atMs - last.atMs < this.#limits.statusMsMax) return;
    this.#heard.set(status.pool, { status, atMs, published: 0 });
  }

  /** Names of the models that are offered, sorted. */
  models(): string[] {
    return [...this.#models.keys()].sort();
  }

  /** All pools that serve some model, sorted: where a program may have an entry. */
  names(): string[] {
    return [...new Set([...this.#models.values()].flat())].sort();
  }

  /** @returns why no call can be served now; undefined when one can. */
  unreadyReason(atMs: number): string | undefined {
    const fresh = [...this.#heard.values()].filter(({ atMs: heardMs }) => atMs - heardMs < this.#limits.statusMsMax);
    if (fresh.length === 0) return "no scheduler is heard";
    if (!fresh.some(({ status }) => status.engines.length > 0)) return "no engine is up";
    if (this.#models.size === 0) return "no pool offers a model";
    return undefined;
  }

  /**
   * The pool for a call. A program stays where this frontend has sent it as long as that pool serves the model;
   * otherwise rendezvous hashing gives every frontend the same answer, and a new pool takes only its share.
   *
   * @param program undefined for a call that is a program of its own: nothing is remembered.
   */
  choose(model: string, tenant: string, program: string | undefined, callId: string): string | Failure {
    const pools = this.#models.get(model);
    if (!pools) {
      if (!this.#modelsRead) return { code: "queue_unavailable", message: "no pool has registered yet; try again" };
      return {
        code: "model_not_found",
        message: "no pool serves this model; GET /v1/models lists those there are",
        param: "model",
      };
    }
    if (program === undefined) return rendezvous(pools, `${tenant}/${callId}`);
    const key = JSON.stringify([tenant, program, model]);
    const known = this.#programs.get(key);
    const pool = known !== undefined && pools.includes(known) ? known : rendezvous(pools, `${tenant}/${program}`);
    this.#programs.set(key, pool);
    return pool;
  }

  /** Back-pressure before anything is stored. Without a fresh status the queue itself decides: it is durable. */
  admit(pool: string, atMs: number): Failure | undefined {
    const heard = this.#heard.get(pool);
    if (!heard || atMs - heard.atMs >= this.#limits.statusMsMax) return undefined;
    const { status } = heard;
    if (status.queuedCalls + heard.published < status.queuedCallsMax) {
      heard.published++;
      return undefined;
    }
    return {
      code: "queue_full",
      message: "the pool holds as many calls as it may; try again later",
      retryAfterS: this.retryAfterS(pool),
    };
  }

  /** Seconds until the pool's queue has drained at its present rate of ends, within bounds. */
  retryAfterS(pool: string): number {
    const status = this.#heard.get(pool)?.status;
    if (!status || status.endsPerSecond === 0) return RETRY_AFTER_S.unknown;
    const seconds = Math.ceil(status.queuedCalls / status.endsPerSecond);
    return Math.min(RETRY_AFTER_S.max, Math.max(RETRY_AFTER_S.min, seconds));
  }
}

/** @param pools at least one. */
function rendezvous(pools: readonly string[], program: string): string {
  let best = "";
  let bestWeight = -1;
  for (const pool of pools) {
    const weight = mix(`${pool}/${program}`);
    if (weight > bestWeight || (weight === bestWeight && pool < best)) {
      best = pool;
      bestWeight = weight;
    }
  }
  return best;
}

/** FNV-1a with murmur3's finish: without it the last characters hardly reach the high bits. */
function mix(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
