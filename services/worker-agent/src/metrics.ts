/** What a worker agent counts for Prometheus: the engine's own counters, and what its adapter sees. */
import type { Engine } from "@autellix/engines";
import type { RecordHead, WriteResult } from "@autellix/protocol";
import { Buckets, type Metrics, Tally } from "@autellix/runtime";
import type { AgentUse } from "./machine.ts";

const BATCH_BOUNDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] as const;
const STEP_BOUNDS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30] as const;

export class AgentMetrics {
  readonly #batch = new Buckets(BATCH_BOUNDS);
  readonly #step = new Buckets(STEP_BOUNDS_S);
  readonly #outcomes = new Tally("status", "code")
    .known("completed", "")
    .known("cancelled", "cancelled")
    .known("expired", "expired")
    .known("failed", "engine_error");
  readonly #writes = new Tally("status").known("stored").known("refused").known("full").known("unknown");
  #use: () => AgentUse | undefined = () => undefined;

  constructor(metrics: Metrics, engine: Engine, labels: { pool: string; engine: string }) {
    metrics.label(labels);
    this.#addSteps(metrics, engine);
    this.#addContexts(metrics, engine);
    this.#addCalls(metrics, engine);
  }

  /** A machine that has joined the pool; undefined while the agent is out of it. */
  follow(use: () => AgentUse | undefined): void {
    this.#use = use;
  }

  stepped(durationMs: number, calls: number): void {
    if (calls === 0) return;
    this.#batch.add(calls);
    this.#step.add(durationMs / 1_000);
  }

  outcomeWritten(head: RecordHead, result: WriteResult): void {
    this.#writes.add(result.kind);
    if (result.kind === "stored" && head.kind === "outcome") this.#outcomes.add(head.status, head.code ?? "");
  }

  #addSteps(metrics: Metrics, engine: Engine): void {
    const of = (read: (counters: ReturnType<Engine["counters"]>) => number) => () => read(engine.counters());
    metrics.counter(
      "autellix_engine_steps_total",
      "Steps.",
      of(({ steps }) => steps),
    );
    metrics.counter(
      "autellix_engine_step_calls_total",
      "Calls that steps advanced.",
      of(({ stepCalls }) => stepCalls),
    );
    metrics.counter(
      "autellix_engine_busy_seconds_total",
      "Time in steps.",
      of(({ busyMs }) => busyMs / 1_000),
    );
    metrics.counter(
      "autellix_engine_tokens_total",
      "Tokens generated.",
      of(({ tokens }) => tokens),
    );
    metrics.histogram("autellix_batch_calls", "Calls of a step's batch.", () => [{ buckets: this.#batch }]);
    metrics.histogram("autellix_step_seconds", "Duration of a step.", () => [{ buckets: this.#step }]);
    metrics.gauge("autellix_batch_calls_max", "Calls that one step may advance.", () => engine.info.batchCallsMax);
    metrics.counter("autellix_plan_idle_seconds_total", "Time without a step because a plan was on its way.", () =>
      one(this.#use()?.planIdleMs, 1_000),
    );
    metrics.gauge(
      "autellix_engine_up",
      "1 while the server behind the engine answers; engines without one are up.",
      () => ((engine.health?.() ?? { state: "up" }).state === "up" ? 1 : 0),
    );
  }

  #addContexts(metrics: Metrics, engine: Engine): void {
    const of = (read: (counters: ReturnType<Engine["counters"]>) => number) => () => read(engine.counters());
    metrics.counter(
      "autellix_prefilled_tokens_total",
      "Prompt and recomputed tokens that were evaluated.",
      of(({ prefilledTokens }) => prefilledTokens),
    );
    metrics.counter(
      "autellix_cached_tokens_total",
      "Prompt tokens that a context or cache held.",
      of(({ cachedTokens }) => cachedTokens),
    );
    metrics.counter("autellix_swaps_total", "Contexts moved to the host tier and back, by kind (out, in).", () => {
      const { swapOuts, swapIns } = engine.counters();
      return [
        { labels: { kind: "out" }, value: swapOuts },
        { labels: { kind: "in" }, value: swapIns },
      ];
    });
    metrics.counter(
      "autellix_swap_bytes_total",
      "Bytes moved, both ways.",
      of(({ swapBytes }) => swapBytes),
    );
    metrics.counter(
      "autellix_swap_seconds_total",
      "Time of moving, both ways.",
      of(({ swapMs }) => swapMs / 1_000),
    );
    metrics.gauge(
      "autellix_kv_blocks",
      "KV blocks in use, by kind (running, parked, retained; host: the host tier).",
      () => entries(this.#use()?.kv, "kind"),
    );
    metrics.gauge("autellix_kv_blocks_max", "KV blocks that there are, by kind (engine, host).", () =>
      entries({ engine: engine.info.kvBlocks, host: engine.info.hostBlocks ?? 0 }, "kind"),
    );
  }

  #addCalls(metrics: Metrics, engine: Engine): void {
    metrics.gauge("autellix_held_calls", "Calls that the agent holds, by status.", () =>
      entries(this.#use()?.held, "status"),
    );
    metrics.gauge("autellix_held_calls_max", "Calls that it may hold.", () => engine.info.heldCallsMax);
    metrics.gauge("autellix_unsent_outcomes", "Results whose record is not stored.", () =>
      one(this.#use()?.unsentOutcomes),
    );
    metrics.gauge("autellix_unsent_outcomes_max", "Above it nothing new is begun.", () =>
      one(this.#use()?.unsentOutcomesMax),
    );
    metrics.gauge("autellix_fenced_outcomes", "Results that wait for the scheduler's word on a newer marker.", () =>
      one(this.#use()?.fencedOutcomes),
    );
    metrics.counter("autellix_outcomes_total", "Terminal records that this process wrote, by status and code.", () =>
      this.#outcomes.samples(),
    );
    metrics.counter(
      "autellix_outcome_writes_total",
      "Writes of records, by status (stored, refused, full, unknown).",
      () => this.#writes.samples(),
    );
    metrics.histogram(
      "autellix_first_token_seconds",
      "From acceptance to a call's first token, as its engine's agent sees it.",
      () => {
        const buckets = this.#use()?.firstToken;
        return buckets ? [{ buckets }] : [];
      },
    );
  }
}

function one(value: number | undefined, divisor = 1): { value: number }[] {
  return value === undefined ? [] : [{ value: value / divisor }];
}

function entries(values: Readonly<Record<string, number>> | undefined, label: string) {
  return Object.entries(values ?? {}).map(([word, value]) => ({ labels: { [label]: word }, value }));
}
