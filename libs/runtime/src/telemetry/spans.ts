/**
 * Sends spans to a collector (OTLP over HTTP, protobuf) with OpenTelemetry's batching. It never stands in the way of a
 * call: the queue is bounded, a collector that is away costs spans and nothing else, and both are counted.
 *
 * Without an endpoint nothing of OpenTelemetry is loaded and no span is made.
 */
import { SPAN_TEXT_MAX, SPANS_SERVICE, type SpanAttributes, type SpanData } from "@autellix/protocol";
import type { Attributes, HrTime } from "@opentelemetry/api";
import type { Resource } from "@opentelemetry/resources";
import type { ReadableSpan, SpanExporter } from "@opentelemetry/sdk-trace";
import type { z } from "zod";
import { envNumber, envText } from "../config.ts";
import type { Logger } from "../logger.ts";

/** Spans that wait to be sent, about 1 KB each. */
export const SPANS_WAITING_MAX = 8_192;
/** A batch is made on the thread that serves calls, 5 µs a span: a larger one delays calls, a smaller one costs more requests. */
export const SPANS_PER_BATCH_MAX = 128;
/** The first of a batch waits so long for more. */
export const SPANS_DELAY_MS = 1_000;
/** A collector that answers later is taken for one that is away. */
const EXPORT_MS_MAX = 10_000;
/** At a stop what waits may take so long. */
const STOP_MS_MAX = 2_000;
/** Losses are said in the log so often at most. */
const LOSS_LOG_MS = 60_000;
const TRACES_PATH = "/v1/traces";
const INTERNAL = 0;
const SERVER = 1;
const ERROR_STATUS = 2;
const SAMPLED_FLAG = 1;

/** Of every service; spread it beside `commonConfig`. */
export const spansConfig = {
  /** A collector's OTLP endpoint over HTTP, `http://host:4318`; without it, and the next two, nothing is traced. */
  AUTELLIX_OTLP_URL: endpoint().optional(),
  /** The same by the names of OpenTelemetry's specification. */
  OTEL_EXPORTER_OTLP_ENDPOINT: endpoint().optional(),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: endpoint().optional(),
  /** Share of programs that are traced; the same in all services. */
  AUTELLIX_TRACE_SAMPLE: envNumber({ min: 0, max: 1 }).default(1),
};

export type SpansEnv = z.infer<z.ZodObject<typeof spansConfig>>;

export interface SpansSetup {
  /** Where spans are posted. */
  url: string;
  /** 0 … 1 */
  sample: number;
}

function endpoint() {
  return envText().refine((text) => /^https?:$/.test(URL.parse(text)?.protocol ?? ""), "must be an http or https URL");
}

/** @returns undefined when nothing is traced. */
export function spansSetup(env: SpansEnv): SpansSetup | undefined {
  const sample = env.AUTELLIX_TRACE_SAMPLE;
  const { AUTELLIX_OTLP_URL: own, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: whole, OTEL_EXPORTER_OTLP_ENDPOINT: base } = env;
  if (sample === 0) return undefined;
  if (own === undefined && whole !== undefined) return { url: whole, sample };
  const given = own ?? base;
  return given === undefined ? undefined : { url: tracesUrl(given), sample };
}

function tracesUrl(base: string): string {
  const url = new URL(base);
  if (!url.pathname.endsWith(TRACES_PATH)) url.pathname = url.pathname.replace(/\/$/, "") + TRACES_PATH;
  return url.href;
}

/** Where a service's spans go. */
export interface SpanSink {
  /** Share of programs that are traced. */
  readonly sample: number;
  /** Never throws, never waits. */
  send(spans: readonly SpanData[]): void;
  /** Since the start. `dropped`: no room, or the collector did not take them. */
  counts(): { sent: number; dropped: number };
  /** Sends what waits, within 2 s. Never throws. */
  stop(): Promise<void>;
}

export interface SpanSource {
  /** `frontend`, `scheduler`, `worker-agent` */
  service: string;
  /** Tells processes of one service apart. */
  instance: string;
  log: Logger;
}

export async function openSpans(setup: SpansSetup, source: SpanSource): Promise<SpanSink> {
  const [{ BatchSpanProcessor }, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/exporter-trace-otlp-proto"),
    import("@opentelemetry/resources"),
  ]);
  const exporter = new OTLPTraceExporter({ url: setup.url, timeoutMillis: EXPORT_MS_MAX });
  const losses = new Losses(setup.url, source.log);
  const processor = new BatchSpanProcessor({
    exporter: counted(exporter, losses),
    maxQueueSize: SPANS_WAITING_MAX,
    maxExportBatchSize: SPANS_PER_BATCH_MAX,
    scheduledDelayMillis: SPANS_DELAY_MS,
    exportTimeoutMillis: 2 * EXPORT_MS_MAX,
  });
  const { service, instance } = source;
  const shared = resourceFromAttributes({ "service.name": SPANS_SERVICE });
  const own = resourceFromAttributes({
    "service.name": `${SPANS_SERVICE}-${service}`,
    "service.namespace": SPANS_SERVICE,
    "service.instance.id": instance,
  });
  return {
    sample: setup.sample,
    send(spans) {
      for (const span of spans) {
        if (losses.waiting >= SPANS_WAITING_MAX) {
          losses.lost(1, "no room");
          continue;
        }
        losses.waiting++;
        processor.onEnd(readable(span, span.shared ? shared : own));
      }
    },
    counts: () => ({ sent: losses.sent, dropped: losses.dropped }),
    async stop() {
      const late = new Promise<void>((resolve) => setTimeout(resolve, STOP_MS_MAX).unref());
      await Promise.race([processor.shutdown().catch(() => {}), late]);
    },
  };
}

/** What was sent and what was lost; says the first loss of a minute in the log. */
class Losses {
  waiting = 0;
  sent = 0;
  dropped = 0;
  readonly #url: string;
  readonly #log: Logger;
  #saidAtMs = Number.NEGATIVE_INFINITY;

  constructor(url: string, log: Logger) {
    this.#url = url;
    this.#log = log;
  }

  lost(spans: number, reason: string): void {
    this.dropped += spans;
    const nowMs = performance.now();
    if (nowMs - this.#saidAtMs < LOSS_LOG_MS) return;
    this.#saidAtMs = nowMs;
    this.#log.warn({ url: this.#url, dropped: this.dropped, reason }, "spans were dropped: the collector is away");
  }
}

function counted(exporter: SpanExporter, losses: Losses): SpanExporter {
  return {
    export(spans, done) {
      losses.waiting -= spans.length;
      exporter.export(spans, (result) => {
        if (result.code === 0) losses.sent += spans.length;
        else losses.lost(spans.length, result.error?.message.slice(0, SPAN_TEXT_MAX) ?? "refused");
        // Told as done either way: the loss is counted here.
        done({ code: 0 });
      });
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: async () => await exporter.forceFlush?.(),
  };
}

const SCOPE = { name: SPANS_SERVICE };
const UNSET_STATUS = { code: 0 };

/** A span as OpenTelemetry's exporter takes it. */
export function readable(span: SpanData, resource: Resource): ReadableSpan {
  const { traceId, spanId, parentId, name, kind, startMs, endMs, events = [], links = [], error } = span;
  const context = { traceId, spanId, traceFlags: SAMPLED_FLAG };
  return {
    name,
    kind: kind === "server" ? SERVER : INTERNAL,
    spanContext: () => context,
    ...(parentId === undefined ? {} : { parentSpanContext: { traceId, spanId: parentId, traceFlags: SAMPLED_FLAG } }),
    startTime: hrTime(startMs),
    // Clocks of two processes may be a little apart; a span never ends before it began.
    endTime: hrTime(Math.max(startMs, endMs)),
    duration: hrTime(Math.max(0, endMs - startMs)),
    status: error === undefined ? UNSET_STATUS : { code: ERROR_STATUS, message: error },
    attributes: attributesOf(span.attributes),
    events: events.map(({ name, atMs, attributes = {} }) => ({
      name,
      time: hrTime(atMs),
      attributes: attributesOf(attributes),
    })),
    links: links.map((link) => ({ context: { ...link, traceFlags: SAMPLED_FLAG } })),
    ended: true,
    resource,
    instrumentationScope: SCOPE,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

/** Names come from clients: each is cut to `SPAN_TEXT_MAX`. What is undefined is left out. */
function attributesOf(attributes: SpanAttributes): Attributes {
  const made: Attributes = {};
  for (const name in attributes) {
    const value = attributes[name];
    if (value === undefined) continue;
    if (typeof value === "string") made[name] = cut(value);
    else if (typeof value === "object") made[name] = value.map(cut);
    else made[name] = value;
  }
  return made;
}

function cut(text: string): string {
  return text.length > SPAN_TEXT_MAX ? text.slice(0, SPAN_TEXT_MAX) : text;
}

/** Whole seconds and nanoseconds; a double holds ms since 1970 to a quarter of a microsecond. */
function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1_000);
  return [seconds, Math.round((ms - seconds * 1_000) * 1e6)];
}
