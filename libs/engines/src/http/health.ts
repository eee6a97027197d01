/** Whether the server works, so that calls wait for one that does not instead of failing one by one. */
import { setTimeout as sleep } from "node:timers/promises";
import type { HttpLimits, HttpLog } from "./options.ts";

export type Health = { state: "up" } | { state: "down"; sinceMs: number };

export interface HealthParts {
  /** True when it works and still serves our model. @throws when it cannot be asked. */
  look: () => Promise<boolean>;
  limits: HttpLimits;
  log: HttpLog;
  nowMs: () => number;
}

export class ServerHealth {
  /** Times that it was down. */
  downs = 0;
  readonly #parts: HealthParts;
  readonly #closed = new AbortController();
  #downAtMs: number | undefined;
  #looking: Promise<void> | undefined;

  constructor(parts: HealthParts) {
    this.#parts = parts;
  }

  get health(): Health {
    if (this.#downAtMs === undefined) return { state: "up" };
    return { state: "down", sinceMs: this.#parts.nowMs() - this.#downAtMs };
  }

  /** Something failed that a server that works would not do. Resolves when it works, now or again. */
  suspect(): Promise<void> {
    if (this.#looking === undefined) {
      this.#looking = this.#untilUp().finally(() => {
        this.#looking = undefined;
      });
      // Rejects when the engine is shut down; whoever waits then is gone, too.
      this.#looking.catch(() => {});
    }
    return this.#looking;
  }

  close(): void {
    this.#closed.abort(new Error("the engine is shut down"));
  }

  async #untilUp(): Promise<void> {
    const { log, nowMs, limits } = this.#parts;
    const { signal } = this.#closed;
    while (!(await this.#works())) {
      signal.throwIfAborted();
      if (this.#downAtMs === undefined) {
        this.#downAtMs = nowMs();
        this.downs++;
        log("warn", "The server is down; its calls wait until it is back.");
      }
      await sleep(limits.pollMs, undefined, { signal });
    }
    if (this.#downAtMs === undefined) return;
    const downMs = Math.round(nowMs() - this.#downAtMs);
    this.#downAtMs = undefined;
    log("info", `The server is back after ${downMs} ms.`);
  }

  async #works(): Promise<boolean> {
    try {
      return await this.#parts.look();
    } catch {
      // Whatever keeps it from answering is what "down" means; the end of it is logged.
      return false;
    }
  }
}
