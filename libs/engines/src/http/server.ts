/** One server, as all calls of an engine share it: its health, its free slots, and what went wrong with it. */
import { isDeepStrictEqual } from "node:util";
import type { EngineInfo } from "@autellix/protocol";
import type { HttpClient } from "./client.ts";
import type { Dialect } from "./dialect.ts";
import { record, ServerFailure } from "./failure.ts";
import { ServerHealth } from "./health.ts";
import type { HttpLimits, HttpLog } from "./options.ts";
import { Trials } from "./trials.ts";

/** Cumulative since the engine started. */
export interface ServerCounters {
  /** Times that a stream broke, stalled or was refused for the moment, and was taken up again or given up. */
  failures: number;
  /** Calls that failed in the end. */
  failedCalls: number;
  /** Times that the server was down. */
  downs: number;
  /** Requests on the server that are not ours, as last seen: other clients', or ours that it goes on with. */
  foreignCalls: number;
  /** Most of them at once. */
  foreignCallsMax: number;
  /** Prompt tokens that the server evaluated, as far as it does not say that a cache held them. */
  prefilledTokens: number;
  cachedTokens: number;
}

/** What the list of models may be answered with by a server that works: its limits and keys are the calls' affair. */
const UP = new Set([401, 403, 429]);
/** Servers measure at their start how much memory is free for KV: what differs by less is no other server. */
const KV_CHANGE_MIN = 0.05;
/** A line of one kind is logged once in this time, with the number of those that were not. */
const LOG_MS = 10_000;

/** What a server was found to be. */
export interface Found {
  dialect: Dialect;
  info: EngineInfo;
}

export class Server {
  readonly client: HttpClient;
  readonly limits: HttpLimits;
  readonly health: ServerHealth;
  readonly busy = new BusyClock();
  readonly trials = new Trials();
  readonly counters: Omit<ServerCounters, "downs"> = {
    failures: 0,
    failedCalls: 0,
    foreignCalls: 0,
    foreignCallsMax: 0,
    prefilledTokens: 0,
    cachedTokens: 0,
  };
  #pausedUntilMs = 0;
  readonly #idle: NodeJS.Timeout;
  readonly #log: HttpLog;
  readonly #logged = new Map<string, { atMs: number; more: number }>();

  #found: Found;
  /** It is back as this. */
  #next: Found | undefined;

  /** @param parts.find finds out again what it is. @throws ServerFailure, or Error for the operator. */
  constructor(parts: {
    client: HttpClient;
    found: Found;
    find: () => Promise<Found>;
    limits: HttpLimits;
    log: HttpLog;
  }) {
    this.client = parts.client;
    this.#found = parts.found;
    this.limits = parts.limits;
    this.#log = parts.log;
    this.health = new ServerHealth({
      look: () => this.#works(),
      hasChanged: () => this.#hasChanged(parts.find),
      limits: parts.limits,
      log: parts.log,
      nowMs: () => performance.now(),
    });
    // Streams find out by themselves; without one nobody would.
    this.#idle = setInterval(() => {
      if (!this.busy.isBusy) this.health.suspect().catch(() => {});
    }, parts.limits.idleMs);
    this.#idle.unref();
  }

  get dialect(): Dialect {
    return this.#found.dialect;
  }

  get info(): EngineInfo {
    return this.#found.info;
  }

  get contextTokensMax(): number {
    return this.info.contextTokensMax;
  }

  /** From here on it is used as what it has become. No call may be open. */
  renew(): void {
    this.#found = this.#next ?? this.#found;
    this.#next = undefined;
    this.health.renewed();
  }

  close(): void {
    clearInterval(this.#idle);
    this.health.close();
    this.client.close();
  }

  failed(failure: ServerFailure): void {
    this.counters.failures++;
    this.warn("failure", `A stream is taken up again: ${failure.reason}.`);
  }

  /** The call fails. What the server said goes to the client only (S12). */
  gaveUp(key: string, error: unknown): void {
    this.counters.failedCalls++;
    const cause = error instanceof Error && error.cause instanceof ServerFailure ? error.cause : error;
    const reason = cause instanceof ServerFailure ? cause.reason : cause instanceof Error ? cause.name : "unknown";
    this.warn("gave up", `Call ${key} failed: ${reason}.`);
  }

  /** At a stream's end. @param promptTokens with what the answer had before. @param cachedTokens where the server says it. */
  evaluated(promptTokens: number, cachedTokens: number | undefined): void {
    const cached = Math.min(cachedTokens ?? 0, promptTokens);
    this.counters.prefilledTokens += promptTokens - cached;
    this.counters.cachedTokens += cached;
  }

  /** It wants no new requests for so long. */
  pause(ms: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, performance.now() + Math.min(ms, this.limits.retryAfterMsMax));
  }

  /** How long no request may begin. */
  pausedMs(): number {
    return Math.max(0, this.#pausedUntilMs - performance.now());
  }

  foreign(calls: number): void {
    const changed = calls !== this.counters.foreignCalls;
    this.counters.foreignCalls = calls;
    this.counters.foreignCallsMax = Math.max(this.counters.foreignCallsMax, calls);
    if (changed) this.note("info", "foreign", `${calls} calls on the server are not ours; they leave us fewer slots.`);
  }

  warn(kind: string, message: string): void {
    this.note("warn", kind, message);
  }

  note(level: "info" | "warn", kind: string, message: string): void {
    const nowMs = performance.now();
    const last = this.#logged.get(kind);
    if (last !== undefined && nowMs - last.atMs < LOG_MS) {
      last.more++;
      return;
    }
    this.#logged.set(kind, { atMs: nowMs, more: 0 });
    this.#log(level, last === undefined || last.more === 0 ? message : `${message} (and ${last.more} more before)`);
  }

  async #hasChanged(find: () => Promise<Found>): Promise<boolean> {
    let next: Found;
    try {
      next = await find();
    } catch (error) {
      this.warn("finding", `The server is back, but not as what can be used: ${reasonOf(error)}`);
      throw error;
    }
    if (isSame(this.#found, next)) return false;
    this.#next = next;
    this.note("warn", "changed", `The server is another than before: ${described(next)}.`);
    return true;
  }

  async #works(): Promise<boolean> {
    const { dialect, client } = this;
    if (!(await dialect.healthy())) return false;
    const reply = await client.json("GET", "/v1/models");
    // It answers, only not this.
    if (UP.has(reply.status)) return true;
    const { data } = record(reply.json);
    if (reply.status !== 200 || !Array.isArray(data)) return false;
    const ids = data.map((model) => record(model).id);
    if (ids.includes(dialect.facts.model)) return true;
    this.warn("model", `The server no longer serves "${dialect.facts.model}".`);
    return false;
  }
}

function isSame(one: Found, other: Found): boolean {
  const [a, b] = [one.info.kvBlocks, other.info.kvBlocks];
  const kvBlocks = Math.abs(a - b) <= KV_CHANGE_MIN * a ? a : b;
  const factsOf = ({ dialect: { facts }, info }: Found, blocks: number) => [
    facts.name,
    facts.model,
    { ...info, kvBlocks: blocks },
  ];
  return isDeepStrictEqual(factsOf(one, a), factsOf(other, kvBlocks));
}

/** For a log. */
export function described({ dialect: { facts } }: Found): string {
  const { kvBlocks, blockTokens, contextTokensMax } = facts.info;
  return `${facts.name}: model "${facts.model}", ${facts.slots} slots, ${kvBlocks * blockTokens} tokens of KV, contexts of ${contextTokensMax}`;
}

/** Never what the server said: that may quote a prompt (S12). */
function reasonOf(error: unknown): string {
  if (error instanceof ServerFailure) return error.reason;
  return error instanceof Error ? error.message : "it does not answer";
}

/** Time during which the server had at least one of our streams. */
export class BusyClock {
  #streams = 0;
  #sinceMs = 0;
  #totalMs = 0;

  begin(): void {
    if (this.#streams++ === 0) this.#sinceMs = performance.now();
  }

  end(): void {
    if (--this.#streams === 0) this.#totalMs += performance.now() - this.#sinceMs;
  }

  get isBusy(): boolean {
    return this.#streams > 0;
  }

  totalMs(): number {
    return this.#totalMs + (this.#streams > 0 ? performance.now() - this.#sinceMs : 0);
  }
}

/** How many of the server's slots others use, looked at from time to time. */
export class ForeignLoad {
  readonly #server: Server;
  /** Most requests of ours that the server may have counted at the last look. */
  #ownMax = 0;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #looking = false;

  constructor(server: Server) {
    this.#server = server;
  }

  /** @param own requests of ours now. @param flowing those of them whose tokens come. */
  observe(own: number, flowing: () => ReadonlySet<unknown>): void {
    this.#ownMax = Math.max(this.#ownMax, own);
    const nowMs = performance.now();
    if (this.#looking || nowMs - this.#lookedAtMs < this.#server.limits.watchMs) return;
    this.#looking = true;
    this.#lookedAtMs = nowMs;
    void this.#look(own, flowing).finally(() => {
      this.#looking = false;
    });
  }

  /**
   * Of one that we began or left just now nobody knows whether the server counted it: the others are between two
   * numbers, and what was thought before is moved no further than into that range.
   */
  async #look(own: number, flowing: () => ReadonlySet<unknown>): Promise<void> {
    const before = flowing();
    let load: number | undefined;
    try {
      load = await this.#server.dialect.load();
    } catch {
      // It does not answer: whether it is down is what the streams find out.
    }
    const ownMax = this.#ownMax;
    this.#ownMax = own;
    if (load === undefined) return;
    const after = flowing();
    const sure = [...before].filter((run) => after.has(run)).length;
    const { foreignCalls } = this.#server.counters;
    this.#server.foreign(Math.max(0, load - ownMax, Math.min(foreignCalls, load - sure)));
  }
}
