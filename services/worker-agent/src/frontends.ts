/**
 * Whether the frontends of the held calls live. Each is asked once a second; one that has not answered for
 * `ORPHAN_GRACE_MS` is reported dead, and the leader cancels its calls (design §2, Frontend gone).
 */
import { ORPHAN_GRACE_MS } from "@autellix/protocol";
import { PING_MS } from "./limits.ts";
import type { AgentState } from "./state.ts";

/** Silence is counted in unanswered questions: a process that was itself held up for seconds has asked only one. */
const UNANSWERED_MAX = Math.ceil(ORPHAN_GRACE_MS / PING_MS);

export class Frontends {
  readonly #state: AgentState;
  readonly #unanswered = new Map<string, number>();
  /** Called when the set of dead frontends has changed. */
  readonly #onChange: () => void;

  constructor(state: AgentState, onChange: () => void) {
    this.#state = state;
    this.#onChange = onChange;
  }

  /** Starts asking; it ends by itself with the last call that names a frontend. */
  watch(): void {
    const { timers, nowMs } = this.#state;
    if (!timers.has("ping")) timers.set("ping", nowMs + PING_MS, () => this.#askAll());
  }

  #askAll(): void {
    const named = new Set<string>();
    for (const call of this.#state.held.values()) if (call.frontend !== undefined) named.add(call.frontend);
    for (const frontend of this.#unanswered.keys()) if (!named.has(frontend)) this.#unanswered.delete(frontend);
    for (const frontend of named) {
      if (!this.#unanswered.has(frontend)) this.#unanswered.set(frontend, 0);
      this.#state.emit({ kind: "ping", frontend });
    }
    if (named.size > 0) this.watch();
  }

  answered(frontend: string, answered: boolean): void {
    const before = this.#unanswered.get(frontend);
    if (before === undefined) return;
    if (answered) this.#unanswered.set(frontend, 0);
    else if (this.#state.connected) this.#unanswered.set(frontend, Math.min(before + 1, UNANSWERED_MAX));
    const isDead = this.#unanswered.get(frontend) === UNANSWERED_MAX;
    if (isDead !== (before === UNANSWERED_MAX)) this.#onChange();
  }

  /** After a break of our own connection nobody's earlier silence counts. */
  forgiveSilence(): void {
    for (const [frontend, count] of this.#unanswered) if (count < UNANSWERED_MAX) this.#unanswered.set(frontend, 0);
  }

  dead(): string[] {
    return [...this.#unanswered].filter(([, count]) => count === UNANSWERED_MAX).map(([frontend]) => frontend);
  }
}
