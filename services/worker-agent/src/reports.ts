/** When a report goes out, and what is in it. Whole state each time, so that a lost one does no harm (design §5). */
import { type Counters, type FinishedCall, type Report, type SpanText, subjects } from "@autellix/protocol";
import type { Contexts } from "./contexts.ts";
import type { Frontends } from "./frontends.ts";
import { FINISHED_CALLS_MAX, REPORT_GAP_MS_MIN, REPORT_IDLE_MS } from "./limits.ts";
import { PlanIdle } from "./plan-idle.ts";
import type { AgentState } from "./state.ts";

const NO_COUNTERS: Counters = { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, batchMax: 0 };

export class Reports {
  readonly #state: AgentState;
  readonly #contexts: Contexts;
  readonly #frontends: Frontends;
  readonly #planIdle = new PlanIdle();
  /** Number of the last report. */
  #number = 0;
  #sentAtMs = Number.NEGATIVE_INFINITY;
  #dueAtMs = Number.POSITIVE_INFINITY;
  #steps = 0;
  #counters = NO_COUNTERS;
  /** Until a plan for this incarnation has come, the scheduler may not know that this engine exists. */
  #hello = true;
  /** By attempt name: repeated until the scheduler has read them. */
  readonly #finished = new Map<string, FinishedCall>();
  /** By name of the call: told in one report, not repeated. */
  readonly #spans = new Map<string, SpanText>();

  constructor(state: AgentState, parts: { contexts: Contexts; frontends: Frontends }) {
    this.#state = state;
    this.#contexts = parts.contexts;
    this.#frontends = parts.frontends;
  }

  /** A report as soon as the rate allows. */
  want(): void {
    const { nowMs } = this.#state;
    this.#dueAtMs = Math.min(this.#dueAtMs, Math.max(nowMs, this.#sentAtMs + REPORT_GAP_MS_MIN));
  }

  /** @returns when the next report must go out. */
  dueAtMs(): number {
    return this.#dueAtMs;
  }

  /** Time without a step because a plan was on its way, so far. */
  get planIdleMs(): number {
    return this.#planIdle.totalMs;
  }

  counted(counters: Counters): void {
    this.#counters = counters;
  }

  afterStep(counters: Counters): void {
    this.counted(counters);
    this.#steps++;
    if (this.#steps >= (this.#state.plan?.windowSteps ?? Number.POSITIVE_INFINITY)) this.want();
  }

  /** @returns the number of the first report that carries it. */
  finish(name: string, entry: Omit<FinishedCall, "report" | "span">, span: SpanText | undefined): number {
    const report = this.#number + 1;
    this.#finished.set(name, { ...entry, report });
    if (span !== undefined) this.#spans.set(name, span);
    this.want();
    return report;
  }

  /** At the end of each reaction. @param busy a step or a transfer is under way. */
  observe(busy: boolean): void {
    const { nowMs, draining } = this.#state;
    this.#planIdle.observe(nowMs, { busy, waits: !busy && draining === "no" && this.#waitsForPlan() });
  }

  #waitsForPlan(): boolean {
    let waits = this.#finished.size > 0;
    for (const { phase, stuck } of this.#state.held.values()) {
      if ((phase === "starting" || phase === "opening") && !stuck) return false;
      waits = true;
    }
    return waits;
  }

  /** Whether this attempt's end is still being reported: a plan that names it was made before it was read. */
  isFinished(name: string): boolean {
    return this.#finished.has(name);
  }

  /** False while the scheduler has not read what has ended: more could not be told in one report. */
  hasRoom(): boolean {
    return this.#finished.size < FINISHED_CALLS_MAX;
  }

  /** @param brings something to run. */
  planSeen(reportSeen: number, brings: boolean): void {
    this.#hello = false;
    this.#planIdle.planned(this.#state.nowMs, brings);
    for (const [name, entry] of this.#finished) if (entry.report <= reportSeen) this.#finished.delete(name);
  }

  /** Answers a new leader's question: with `info`, which it may never have seen. */
  answer(replyTo: string): void {
    this.#state.emit({ kind: "send", subject: replyTo, message: this.#make(true) });
  }

  /** At the end of each reaction: sends what is due. */
  sendDue(): void {
    if (this.#state.draining !== "done" && this.#state.nowMs >= this.#dueAtMs) this.sendNow();
  }

  sendNow(): void {
    this.#state.emit({
      kind: "send",
      subject: subjects.report(this.#state.setup.pool),
      message: this.#make(this.#hello),
    });
    this.#sentAtMs = this.#state.nowMs;
    this.#dueAtMs = this.#state.nowMs + REPORT_IDLE_MS;
    this.#steps = 0;
  }

  #finishedNow(): FinishedCall[] {
    const finished = Array.from(this.#finished, ([name, entry]) => {
      const span = this.#spans.get(name);
      return span === undefined ? entry : { ...entry, span };
    });
    this.#spans.clear();
    return finished;
  }

  #make(full: boolean): Report {
    const { setup, plan, held, batch, draining } = this.#state;
    this.#number++;
    const report: Report = {
      kind: "report",
      pool: setup.pool,
      engine: setup.engine,
      incarnation: setup.incarnation,
      number: this.#number,
      planEpoch: plan?.epoch ?? 0,
      planNumber: plan?.number ?? 0,
      calls: [],
      finished: this.#finishedNow(),
      fenced: [],
      frontendsDead: this.#frontends.dead(),
      counters: { ...this.#counters, planIdleMs: this.#planIdle.totalMs },
      kv: this.#contexts.kvUse(),
    };
    if (full) report.info = setup.info;
    if (draining !== "no") report.draining = true;
    for (const call of held.values()) {
      if (call.ending?.stage === "fenced") {
        report.fenced.push({ call: call.key, attempt: call.attempt });
        continue;
      }
      report.calls.push({
        call: call.key,
        attempt: call.attempt,
        state: call.reportState(batch),
        serviceMs: call.serviceMs,
        contextTokens: call.opened ? call.promptTokens + call.completionTokens : 0,
        promptTokens: call.promptTokens,
        completionTokens: call.completionTokens,
        ...(call.preemptible ? {} : { preemptible: false }),
      });
    }
    return report;
  }
}
