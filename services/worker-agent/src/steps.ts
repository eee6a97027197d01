/** One step after another: what must be moved for it, which calls it advances, and where its tokens go. */
import type { ErrorCode, FinishReason } from "@autellix/protocol";
import { arrange } from "./batch.ts";
import type { Contexts, Retained } from "./contexts.ts";
import type { Endings } from "./endings.ts";
import type { Happening, SteppedCall } from "./events.ts";
import type { HeldCall } from "./held-call.ts";
import { STANDSTILL_MS } from "./limits.ts";
import type { PlannedCall, Plans } from "./plans.ts";
import type { Reports } from "./reports.ts";
import type { AgentState } from "./state.ts";
import { SwapCosts } from "./swap-costs.ts";
import type { Timeline } from "./timeline.ts";
import type { Tokens } from "./tokens.ts";

type Stepped = Extract<Happening, { kind: "stepped" }>;
type Swapped = Extract<Happening, { kind: "swapped" }>;

const WATCHDOG = "watchdog";

export class Steps {
  readonly #state: AgentState;
  readonly #plans: Plans;
  readonly #contexts: Contexts;
  readonly #reports: Reports;
  readonly #endings: Endings;
  readonly #tokens: Tokens;
  readonly #costs = new SwapCosts();

  constructor(
    state: AgentState,
    parts: { plans: Plans; contexts: Contexts; reports: Reports; endings: Endings; tokens: Tokens },
  ) {
    this.#state = state;
    this.#plans = parts.plans;
    this.#contexts = parts.contexts;
    this.#reports = parts.reports;
    this.#endings = parts.endings;
    this.#tokens = parts.tokens;
  }

  /**
   * Begins the next step, when none is under way and there is something to advance; contexts that are in its way, and
   * those that it needs, are moved before. @returns whether the engine is busy.
   */
  advance(): boolean {
    const state = this.#state;
    if (state.stepping || state.moving.size > 0) return true;
    if (state.draining === "flushing" || state.draining === "done") return false;
    const others = { retained: this.#contexts.idle(), fixed: this.#contexts.fixed() };
    const { batch, drop, swapOut, swapIn } = arrange(this.#plans.candidates(), others, state.setup.info, (tokens) =>
      this.#costs.isWorthMoving(tokens),
    );
    this.#setBatch(batch);
    for (const context of drop) this.#drop(ownerOf(context));
    // What goes makes the room that what comes needs.
    this.#move(swapOut.length > 0 ? "swapOut" : "swapIn", swapOut.length > 0 ? swapOut : swapIn);
    if (state.moving.size > 0) return true;
    if (batch.length === 0) return false;
    for (const { call } of batch) {
      call.stepped = true;
      call.swapRefused = false;
      call.timeline?.running(state.nowMs, call.completionTokens);
    }
    state.stepping = true;
    state.emit({ kind: "step", ids: [...state.batch] });
    this.#watch();
    return true;
  }

  /** Who leaves the batch is parked, also when no step follows: a server would go on with it. */
  #setBatch(batch: readonly PlannedCall[]): void {
    const state = this.#state;
    const next = new Set(batch.map(({ call }) => call.id));
    for (const id of state.batch) {
      if (next.has(id)) continue;
      const call = state.held.get(id);
      if (call?.phase !== "ready") continue;
      state.emit({ kind: "park", id });
      call.timeline?.left(state.nowMs);
    }
    state.batch = next;
  }

  #drop(owner: HeldCall | Retained): void {
    if (isRetained(owner)) {
      this.#contexts.drop(owner.key);
      return;
    }
    this.#contexts.place(owner, { contextTokens: 0, hostTokens: 0 });
    owner.timeline?.evicted();
    this.#state.emit({ kind: "evict", id: owner.id });
  }

  #move(kind: "swapOut" | "swapIn", contexts: readonly (PlannedCall | Retained)[]): void {
    for (const context of contexts) {
      const { id } = ownerOf(context);
      this.#state.moving.add(id);
      this.#state.emit({ kind, id });
    }
    if (contexts.length > 0) this.#watch();
  }

  swapped({ id, way, swap, context, counters }: Swapped): void {
    const { moving } = this.#state;
    moving.delete(id);
    if (moving.size === 0) this.#state.timers.clear(WATCHDOG);
    else this.#watch();
    this.#reports.counted(counters);
    if (swap) this.#costs.transferred(way, swap);
    const owner = this.#contexts.owner(id);
    // Cancelled or dropped meanwhile: it is closed.
    if (owner === undefined) return;
    this.#contexts.place(owner, context);
    if (swap && !isRetained(owner)) owner.timeline?.swapped(way, this.#state.nowMs, swap);
    if (swap) return;
    // Asked once more, the answer would be the same: the next time it is dropped.
    if (way === "out") owner.swapRefused = true;
    else this.#drop(owner);
  }

  /** The engine has one more time to answer in; without an answer it hangs. */
  #watch(): void {
    const { timers, nowMs, setup } = this.#state;
    const { stepWatchdogMs } = setup.limits;
    const dueMs = nowMs + stepWatchdogMs;
    timers.set(WATCHDOG, dueMs, () => {
      // A process that stood still has not asked, and the engine's answer may be next in line.
      if (this.#state.nowMs - dueMs > STANDSTILL_MS) this.#watch();
      else this.#state.emit({ kind: "hung", afterMs: stepWatchdogMs });
    });
  }

  #note(timeline: Timeline, result: SteppedCall, durationMs: number, batchCalls: number): void {
    const { prefilledTokens, tokens, completionTokens } = result;
    timeline.stepped(this.#state.nowMs, { durationMs, prefilledTokens, tokens, completionTokens, batchCalls });
  }

  stepped({ durationMs, calls, counters }: Stepped): void {
    this.#state.stepping = false;
    this.#state.timers.clear(WATCHDOG);
    const ended: { call: HeldCall; finish?: FinishReason; error?: { code: ErrorCode; message: string } }[] = [];
    let prefilledTokens = 0;
    let decodedCalls = 0;
    for (const result of calls) {
      prefilledTokens += result.prefilledTokens;
      if (result.prefilledTokens === 0 && result.tokens > 0) decodedCalls++;
      const call = this.#state.held.get(result.id);
      // Cancelled or dropped while the step ran: its last token is nobody's.
      if (call?.phase !== "ready") continue;
      if (result.tokens > 0 && call.tokens.count === 0)
        this.#state.firstToken.add(this.#state.sinceAcceptedMs(call) / 1_000);
      call.serviceMs += durationMs;
      call.promptTokens = result.promptTokens;
      call.contextTokens = result.contextTokens;
      call.completionTokens = result.completionTokens;
      call.cachedTokens = result.cachedTokens;
      call.preemptible = result.preemptible;
      if (call.timeline) this.#note(call.timeline, result, durationMs, calls.length);
      if (result.tokens > 0 || result.text !== "" || result.deltas) this.#tokens.take(call, result);
      if (result.error) ended.push({ call, error: result.error });
      else if (result.finish) ended.push({ call, finish: result.finish });
    }
    this.#costs.stepped({ durationMs, prefilledTokens, decodedCalls });
    this.#tokens.afterStep(ended.length > 0);
    for (const { call, finish, error } of ended) {
      if (finish) this.#endings.end(call, { status: "completed", finish });
      else if (error) this.#endings.end(call, { status: "failed", error });
    }
    this.#reports.afterStep(counters);
  }
}

function isRetained(owner: HeldCall | Retained): owner is Retained {
  return !("dispatch" in owner);
}

/** A planned call may be about to go on from an ended one's context: then that is what moves. */
function ownerOf(context: PlannedCall | Retained): HeldCall | Retained {
  return "call" in context ? context.owner : context;
}
