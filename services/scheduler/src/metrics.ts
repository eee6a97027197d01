/**
 * What a scheduler counts for Prometheus. It hears what the core is fed and answers, and what the adapter sees; the
 * rest is read from the machine at a scrape, which costs O(engines · levels + batches), never O(queued).
 */
import type { Command, FinishedCall, Input } from "@autellix/core";
import { engineStateSchema } from "@autellix/protocol";
import { Buckets, CALL_BOUNDS_S, type Metrics, PLAN_BOUNDS_S, Tally } from "@autellix/runtime";
import type { Event, RecordWrite } from "./events.ts";
import type { Figures } from "./figures.ts";
import type { SchedulerMachine } from "./machine.ts";
import { ProgramLatency } from "./program-latency.ts";
import type { InputSink } from "./recorder.ts";

/** The metrics of one scrape share what they read. */
const FIGURES_MS_MAX = 50;

/** What it asks of the adapter at a scrape. */
export interface Leading {
  machine: SchedulerMachine | undefined;
  isLeading: boolean;
  queuedCallsMax: number;
}

export class SchedulerMetrics implements InputSink {
  readonly #programs = new ProgramLatency();
  readonly #outcomes = new Tally("status", "code")
    .known("cancelled", "cancelled")
    .known("expired", "expired")
    .known("failed", "program_ended")
    .known("dead", "dead");
  readonly #markers = new Tally("cause").known("engine_lost").known("crash").known("take_over");
  readonly #refused = new Tally("code");
  readonly #losses = new Tally("cause").known("crash").known("exit").known("silence");
  readonly #plan = new Buckets(PLAN_BOUNDS_S);
  readonly #lag = new Buckets(CALL_BOUNDS_S);
  readonly #waiting = new Buckets(CALL_BOUNDS_S);
  readonly #service = new Buckets(CALL_BOUNDS_S);
  /** By engine: the oldest plan that no report has shown in force. */
  readonly #unseen = new Map<string, { number: number; sentAt: number }>();
  readonly #incarnations = new Map<string, string>();
  #input: Input | undefined;
  /** Ends in the report that was fed last, once one of them is acked. */
  #finished: Map<string, FinishedCall> | undefined;
  #figures: { machine: SchedulerMachine; atMs: number; figures: Figures } | undefined;
  #arrivals = 0;
  #plans = 0;
  #outcomesShare: number | undefined;
  #takeOverBeganMs = 0;
  #takeOverMs: number | undefined;

  constructor(metrics: Metrics, pool: string, leading: () => Leading) {
    metrics.label({ pool });
    this.#addLeadership(metrics, leading);
    this.#addQueues(metrics, leading);
    this.#addCalls(metrics, leading);
    this.#addEngines(metrics, leading);
    this.#addPlans(metrics);
  }

  // ── what it hears ──────────────────────────────────────────────────────────────────────────────────────────

  fed(input: Input): void {
    this.#input = input;
    switch (input.kind) {
      case "callArrived": {
        const { id, program, alone = false, arrivedAt } = input.call;
        this.#arrivals++;
        this.#programs.arrived(id, program, alone, arrivedAt, input.at);
        break;
      }
      case "programStarted":
        if (input.restored) this.#programs.restored(input.program, input.restored.arrivedAt, input.at);
        break;
      case "programEnded":
        this.#programs.closed(input.program);
        break;
      case "engineJoined":
        if ((this.#incarnations.get(input.engine) ?? input.incarnation) !== input.incarnation)
          this.#losses.add("crash");
        this.#incarnations.set(input.engine, input.incarnation);
        this.#unseen.delete(input.engine);
        break;
      case "engineLost":
        this.#losses.add(input.cause);
        this.#incarnations.delete(input.engine);
        this.#unseen.delete(input.engine);
        break;
      case "reported":
        this.#reported(input);
        break;
      case "leaderStarted":
        this.#takeOverMs = performance.now() - this.#takeOverBeganMs;
        break;
      case "timePassed":
        this.#programs.sweep(input.at);
        break;
    }
  }

  #reported({ at, report }: Extract<Input, { kind: "reported" }>): void {
    const unseen = this.#unseen.get(report.engine);
    if (!unseen || report.planNumber < unseen.number) return;
    this.#lag.add((at - unseen.sentAt) / 1_000);
    this.#unseen.delete(report.engine);
  }

  answered(commands: readonly Command[]): void {
    const input = this.#input;
    if (!input) return;
    this.#finished = undefined;
    for (const command of commands) {
      if (command.kind === "sendPlan") {
        const { engine, number } = command.plan;
        this.#plans++;
        if (!this.#unseen.has(engine)) this.#unseen.set(engine, { number, sentAt: input.at });
      } else if (command.kind === "ack") this.#ended(command, input);
    }
  }

  #ended({ call }: Extract<Command, { kind: "ack" }>, input: Input): void {
    if (input.kind === "reported") this.#finished ??= new Map(input.report.finished.map((one) => [one.call, one]));
    const finished = this.#finished?.get(call);
    if (!finished || finished.found) {
      this.#programs.ended(call, undefined, input.at);
      return;
    }
    this.#waiting.add(finished.waitingMs / 1_000);
    this.#service.add(finished.serviceMs / 1_000);
    // Not the core's business, but in its input for readers of its log.
    const { completionTokens = 0 } = finished as { completionTokens?: number };
    this.#programs.ended(call, completionTokens, input.at);
  }

  takeOverBegan(): void {
    this.#takeOverBeganMs = performance.now();
  }

  /** @param tookMs of the machine's reaction. */
  received(event: Event, tookMs: number): void {
    if (event.kind === "wake") this.#plan.add(tookMs / 1_000);
    else if (event.kind === "outcomesUsed") this.#outcomesShare = event.share;
    else if (event.kind === "wrote" && event.result.kind === "stored") this.#stored(event.write);
  }

  #stored(write: RecordWrite): void {
    if (write.kind === "marker") {
      this.#markers.add(write.cause);
      return;
    }
    this.#outcomes.add(write.head.status, write.head.code ?? "");
    if (write.refused) this.#refused.add(write.head.code ?? "");
  }

  /** Undefined on a standby. */
  #read(leading: () => Leading): Figures | undefined {
    const { machine } = leading();
    if (!machine) return undefined;
    const last = this.#figures;
    const atMs = performance.now();
    if (last?.machine === machine && atMs - last.atMs < FIGURES_MS_MAX) return last.figures;
    this.#figures = { machine, atMs, figures: machine.figures() };
    return this.#figures.figures;
  }

  // ── what a scrape reads ────────────────────────────────────────────────────────────────────────────────────

  #addLeadership(metrics: Metrics, leading: () => Leading): void {
    metrics.gauge("autellix_leader", "1 on the scheduler that leads the pool, 0 on a standby.", () =>
      leading().isLeading ? 1 : 0,
    );
    metrics.gauge("autellix_epoch", "Number of the leadership.", () => one(leading().machine?.epoch));
    metrics.gauge("autellix_take_over_seconds", "From taking the lease to leading.", () =>
      one(this.#takeOverMs === undefined ? undefined : this.#takeOverMs / 1_000),
    );
    metrics.gauge("autellix_dispatching", "0 while nothing new is begun: outcomes nearly full, or no engine.", () =>
      one(this.#read(leading)?.dispatching),
    );
    metrics.gauge("autellix_outcomes_used_ratio", "Share of the room of the stream of outcomes that is taken.", () =>
      one(this.#outcomesShare),
    );
  }

  #addQueues(metrics: Metrics, leading: () => Leading): void {
    const byLevel = (values: readonly number[] = []) =>
      values.map((value, index) => ({ labels: { level: `Q${index + 1}` }, value }));
    metrics.gauge("autellix_queue_calls", "Calls that wait, parked ones too, by level.", () =>
      byLevel(this.#read(leading)?.waitingByLevel),
    );
    metrics.gauge("autellix_running_calls", "Calls in the last plans' batches, by level.", () =>
      byLevel(this.#read(leading)?.runningByLevel),
    );
    metrics.histogram(
      "autellix_queue_wait_seconds",
      "Waiting since acceptance of calls that are given to an engine, by the level that they come from.",
      () => this.#read(leading)?.waits.map((buckets, index) => ({ labels: { level: `Q${index + 1}` }, buckets })) ?? [],
    );
    const quanta = () => this.#read(leading)?.quantaMs ?? [];
    metrics.gauge("autellix_level_quantum_seconds", "Service after which a call is demoted, by level.", () =>
      quanta().map((ms, index) => ({ labels: { level: `Q${index + 1}` }, value: ms / 1_000 })),
    );
    const total = (of: "demotions" | "promotions" | "preemptions") => () => one(this.#read(leading)?.totals[of]);
    metrics.counter("autellix_demotions_total", "Calls that used up a level's quantum.", total("demotions"));
    metrics.counter("autellix_promotions_total", "Calls that went back to Q1 after long waiting.", total("promotions"));
    metrics.counter("autellix_preemptions_total", "Calls that left a batch unfinished.", total("preemptions"));
  }

  #addCalls(metrics: Metrics, leading: () => Leading): void {
    metrics.gauge("autellix_calls", "Calls in the pool that have not ended.", () =>
      one(this.#read(leading)?.counts.queued),
    );
    metrics.gauge(
      "autellix_calls_max",
      "Calls in the pool above which frontends refuse.",
      () => leading().queuedCallsMax,
    );
    metrics.gauge("autellix_programs", "Entries of the process table.", () =>
      one(this.#read(leading)?.counts.programs),
    );
    metrics.counter(
      "autellix_arrivals_total",
      "Calls read from the queue; again after a take-over.",
      () => this.#arrivals,
    );
    metrics.counter("autellix_attempts_total", "Attempts that were given to an engine.", () =>
      one(this.#read(leading)?.waits.reduce((sum, { counts }) => sum + counts.reduce((a, b) => a + b, 0), 0)),
    );
    metrics.counter("autellix_outcomes_total", "Terminal records that this process wrote, by status and code.", () =>
      this.#outcomes.samples(),
    );
    metrics.counter("autellix_markers_total", "Fail-overs: attempts begun after a loss, by cause.", () =>
      this.#markers.samples(),
    );
    metrics.counter("autellix_refused_calls_total", "Calls on the queue whose headers were refused, by code.", () =>
      this.#refused.samples(),
    );
    metrics.histogram("autellix_call_waiting_seconds", "Waiting of ended calls, all attempts together.", () => [
      { buckets: this.#waiting },
    ]);
    metrics.histogram("autellix_call_service_seconds", "Service of ended calls, all attempts together.", () => [
      { buckets: this.#service },
    ]);
    metrics.histogram(
      "autellix_program_latency_seconds",
      "From a program's first call to the end of its last one; of programs that are over.",
      () => [{ buckets: this.#programs.latency }],
    );
    metrics.histogram(
      "autellix_program_token_latency_seconds",
      "A program's latency over the tokens that it generated (the paper's metric).",
      () => [{ buckets: this.#programs.perToken }],
    );
  }

  #addEngines(metrics: Metrics, leading: () => Leading): void {
    metrics.gauge("autellix_engines", "Engines of the pool, by status (up, suspect, draining).", () => {
      const { engines } = this.#read(leading) ?? {};
      if (!engines) return [];
      return engineStateSchema.options.map((status) => ({
        labels: { status },
        value: engines.filter(({ state }) => state === status).length,
      }));
    });
    metrics.gauge("autellix_report_age_seconds", "Silence of an engine's agent.", () =>
      (this.#read(leading)?.engines ?? []).map(({ engine, silentMs }) => ({
        labels: { engine },
        value: silentMs / 1_000,
      })),
    );
    metrics.counter("autellix_engine_losses_total", "Engines that were lost, by cause (crash, exit, silence).", () =>
      this.#losses.samples(),
    );
    metrics.histogram("autellix_report_lag_seconds", "From a plan to the report that shows it in force.", () => [
      { buckets: this.#lag },
    ]);
  }

  #addPlans(metrics: Metrics): void {
    metrics.counter("autellix_plans_total", "Plans sent.", () => this.#plans);
    metrics.histogram(
      "autellix_plan_seconds",
      "Time that planning takes, all engines whose plan is due together.",
      () => [{ buckets: this.#plan }],
    );
  }
}

/** No sample while there is nothing to say: a standby has no queues. */
function one(value: number | undefined): { value: number }[] {
  return value === undefined ? [] : [{ value }];
}
