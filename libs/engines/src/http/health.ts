/** Whether the server works, so that calls wait for one that does not instead of failing one by one. */
import { setTimeout as sleep } from "node:timers/promises";
import type { HttpLimits, HttpLog } from "./options.ts";

/** `changed`: it is back as another than before; calls wait until `renewed` is called. */
export type Health = { state: "up" } | { state: "down"; sinceMs: number } | { state: "changed" };

export interface HealthParts {
  /** True when it works and still serves our model. @throws when it cannot be asked. */
  look: () => Promise<boolean>;
  /** Asked of a server that was down and works: whether it holds or can something else. @throws when it cannot be asked. */
  hasChanged: () => Promise<boolean>;
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
  #renewal: PromiseWithResolvers<void> | undefined;

  constructor(parts: HealthParts) {
    this.#parts = parts;
  }

  get health(): Health {
    if (this.#renewal !== undefined) return { state: "changed" };
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

  /** What has changed is known to whoever uses it. */
  renewed(): void {
    this.#renewal?.resolve();
    this.#renewal = undefined;
  }

  close(): void {
    this.#renewal?.reject(new Error("the engine is shut down"));
    this.#closed.abort(new Error("the engine is shut down"));
  }

  async #untilUp(): Promise<void> {
    const { log, nowMs, limits } = this.#parts;
    const { signal } = this.#closed;
    let state = await this.#look();
    for (; state === "down"; state = await this.#look()) {
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
    log("info", `The server is back after ${downMs} ms.`);
    this.#downAtMs = undefined;
    if (state !== "changed") return;
    signal.throwIfAborted();
    this.#renewal = Promise.withResolvers<void>();
    await this.#renewal.promise;
  }

  async #look(): Promise<"up" | "down" | "changed"> {
    try {
      if (!(await this.#parts.look())) return "down";
      return this.#downAtMs !== undefined && (await this.#parts.hasChanged()) ? "changed" : "up";
    } catch {
      // Whatever keeps it from answering is what "down" means; the end of it is logged.
      return "down";
    }
  }
}
