/** What a frontend counts for Prometheus: what its clients see, and how the queue answers. */
import type { ErrorCode, PublishResult } from "@autellix/protocol";
import { Buckets, CALL_BOUNDS_S, type Metrics, Tally, TOKEN_BOUNDS_S } from "@autellix/runtime";
import type { EndedFields } from "./events.ts";
import type { Limits } from "./limits.ts";

const PUBLISH_BOUNDS_S = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10] as const;

/** What it asks of the frontend at a scrape. */
export interface FrontendUse {
  openCalls: number;
  openCancels: number;
  bodiesBytes: number;
}

export class FrontendMetrics {
  readonly #answers = new Tally("status");
  readonly #refused = new Tally("code").known("queue_full").known("queue_unavailable").known("no_engine");
  readonly #ends = new Tally("pool", "status", "code");
  readonly #publishes = new Tally("status").known("accepted").known("full").known("unknown");
  readonly #publish = new Buckets(PUBLISH_BOUNDS_S);
  readonly #firstToken = new Buckets(CALL_BOUNDS_S);
  readonly #call = new Buckets(CALL_BOUNDS_S);
  readonly #token = new Buckets(TOKEN_BOUNDS_S);

  constructor(metrics: Metrics, limits: Limits, use: () => FrontendUse, connections: () => Promise<number>) {
    metrics.gauge("autellix_http_connections", "Open HTTP connections.", connections);
    metrics.gauge(
      "autellix_http_connections_max",
      "Above it connections are closed at once.",
      () => limits.connectionsMax,
    );
    metrics.gauge("autellix_open_calls", "Calls whose clients wait here.", () => use().openCalls);
    metrics.gauge("autellix_open_calls_max", "Above it calls are refused.", () => limits.openCallsMax);
    metrics.gauge(
      "autellix_open_cancels",
      "Cancels that are repeated until their call has ended.",
      () => use().openCancels,
    );
    metrics.gauge("autellix_bodies_bytes", "Bodies that the queue has not confirmed.", () => use().bodiesBytes);
    metrics.counter("autellix_http_answers_total", "HTTP answers, by HTTP status.", () => this.#answers.samples());
    metrics.counter(
      "autellix_refused_requests_total",
      "HTTP requests that were refused before anything was queued, by code.",
      () => this.#refused.samples(),
    );
    metrics.counter(
      "autellix_answers_total",
      "Ends of accepted calls as clients saw them, by pool, status and code.",
      () => this.#ends.samples(),
    );
    metrics.counter("autellix_publishes_total", "Publishes to the queue, by status.", () => this.#publishes.samples());
    metrics.histogram("autellix_publish_seconds", "Time until the queue answers a publish.", () => [
      { buckets: this.#publish },
    ]);
    metrics.histogram(
      "autellix_client_first_token_seconds",
      "From the request to the first token, of calls that had one.",
      () => [{ buckets: this.#firstToken }],
    );
    metrics.histogram("autellix_client_call_seconds", "From the request to the last byte, of completed calls.", () => [
      { buckets: this.#call },
    ]);
    metrics.histogram("autellix_client_token_seconds", "Mean time between two tokens of a completed call.", () => [
      { buckets: this.#token },
    ]);
  }

  httpAnswered(status: number, refusedAs: ErrorCode | undefined): void {
    this.#answers.add(String(status));
    if (refusedAs !== undefined) this.refused(refusedAs);
  }

  refused(code: ErrorCode): void {
    this.#refused.add(code);
  }

  published(result: PublishResult["kind"], tookMs: number): void {
    this.#publishes.add(result);
    this.#publish.add(tookMs / 1_000);
  }

  callEnded({ pool, status, code, ttftMs, durationMs, completionTokens }: EndedFields): void {
    this.#ends.add(pool, status, code ?? "");
    if (ttftMs !== undefined) this.#firstToken.add(ttftMs / 1_000);
    if (status !== "completed") return;
    this.#call.add(durationMs / 1_000);
    if (ttftMs === undefined || completionTokens === undefined || completionTokens < 2) return;
    this.#token.add((durationMs - ttftMs) / 1_000 / (completionTokens - 1));
  }
}
