/**
 * Sends spans to a collector: OTLP's JSON over HTTP. It never stands in the way of a call: what waits is bounded, a
 * collector that is away costs spans and nothing else, and both are counted. OpenTelemetry's exporter posts, repeats and
 * reads its environment (headers, certificates, compression); the spans are texts when it gets them (decision 0030).
 */
import { type SentSpan, SPAN_TEXT_MAX, SPANS_SERVICE, type SpansLater, spanText } from "@autellix/protocol";
import { z } from "zod";
import type { Logger } from "../logger.ts";
import type { SpansSetup } from "./config.ts";

/** Spans that wait to be sent or are on their way, about 1 KB each. */
export const SPANS_WAITING_MAX = 8_192;
/** As many are sent at once: a message costs as much as a hundred spans, and its length delays the calls of its moment. */
const SPANS_PER_MESSAGE_MAX = 512;
/** The first of a message waits so long for more: OpenTelemetry's own default. */
const SPANS_DELAY_MS = 5_000;
/** Of those that are made later, so many together: what they need is then in the processor's caches; more stall the loop. */
const LATER_MAX = 16;
/** Of texts, at first; of a character, at most. */
const TEXTS_BYTES = 256 * 1024;
const UTF8_BYTES_MAX = 3;
/** A collector that answers later is taken for one that is away. */
const EXPORT_MS_MAX = 10_000;
/** Messages under way: as many full ones as may wait, and those that were sent for their age. */
const EXPORTS_MAX = SPANS_WAITING_MAX / SPANS_PER_MESSAGE_MAX + EXPORT_MS_MAX / SPANS_DELAY_MS + 1;
/** At a stop what waits may take so long. */
const STOP_MS_MAX = 2_000;
/** Losses are said in the log so often at most. */
const LOSS_LOG_MS = 60_000;

/** Where a service's spans go. */
export interface SpanSink {
  /** Share of programs that are traced. */
  readonly sample: number;
  /** A text is the one of a shared span. Never throws, never waits. */
  send(spans: readonly SentSpan[]): void;
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

/** Spans of one message: those that name this process, and those that name none. */
interface Spans {
  own: Texts;
  shared: Texts;
}

/**
 * Texts with commas between them, as bytes outside the heap: as strings they would outlive two collections of young
 * objects before they are sent, which cost more than making them.
 */
class Texts {
  #bytes = Buffer.allocUnsafeSlow(TEXTS_BYTES);
  #length = 0;
  count = 0;

  /** @param count of spans in it. */
  add(text: string, count: number): void {
    const needed = this.#length + 1 + UTF8_BYTES_MAX * text.length;
    if (needed > this.#bytes.length) {
      const longer = Buffer.allocUnsafeSlow(2 * needed);
      this.#bytes.copy(longer, 0, 0, this.#length);
      this.#bytes = longer;
    }
    if (this.#length > 0) this.#length += this.#bytes.write(",", this.#length);
    this.#length += this.#bytes.write(text, this.#length);
    this.count += count;
  }

  /** Valid until the next `add` or `clear`. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Its memory is used again: fresh pages for a megabyte every few seconds cost more than what is written there. */
  clear(): void {
    this.#length = 0;
    this.count = 0;
  }
}

type ExporterParts = typeof import("@opentelemetry/otlp-exporter-base/node-http");

/** Nothing of OpenTelemetry is loaded without this. */
export async function openSpans(setup: SpansSetup, source: SpanSource): Promise<SpanSink> {
  return new Sink(setup, source, await import("@opentelemetry/otlp-exporter-base/node-http"));
}

const answerSchema = z.object({
  // As protobuf's JSON has 64 bits.
  partialSuccess: z
    .object({ rejectedSpans: z.coerce.number().optional(), errorMessage: z.string().optional() })
    .optional(),
});

const countOf = ({ own, shared }: Spans) => own.count + shared.count;

/** A whole message, of the spans of two resources. */
function messageOf({ service, instance }: SpanSource): (spans: Spans) => Uint8Array {
  const named = (name: string, value: string) => `{"key":"${name}","value":{"stringValue":${JSON.stringify(value)}}}`;
  const opened = (...attributes: string[]) =>
    `{"resource":{"attributes":[${attributes}]},"scopeSpans":[{"scope":{"name":"${SPANS_SERVICE}"},"spans":[`;
  const begin = Buffer.from(`{"resourceSpans":[${opened(named("service.name", SPANS_SERVICE))}`);
  const between = Buffer.from(
    `]}]},${opened(
      named("service.name", `${SPANS_SERVICE}-${service}`),
      named("service.namespace", SPANS_SERVICE),
      named("service.instance.id", instance),
    )}`,
  );
  const end = Buffer.from("]}]}]}");
  return ({ own, shared }) => Buffer.concat([begin, shared.bytes(), between, own.bytes(), end]);
}

class Sink implements SpanSink {
  readonly sample: number;
  /** For the log: a collector's address may hold a password or a key. */
  readonly #shownUrl: string;
  readonly #exporter: ReturnType<ExporterParts["createOtlpHttpExportDelegate"]>;
  readonly #log: Logger;
  readonly #spans: Spans = { own: new Texts(), shared: new Texts() };
  #later: SpansLater[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** With those on their way. */
  #waiting = 0;
  #sent = 0;
  #dropped = 0;
  #saidAtMs = Number.NEGATIVE_INFINITY;

  constructor({ url, sample }: SpansSetup, source: SpanSource, parts: ExporterParts) {
    this.sample = sample;
    const { origin, pathname } = new URL(url);
    this.#shownUrl = origin + pathname;
    this.#log = source.log;
    const options = { url, timeoutMillis: EXPORT_MS_MAX, concurrencyLimit: EXPORTS_MAX };
    this.#exporter = parts.createOtlpHttpExportDelegate(
      parts.convertLegacyHttpOptions(options, "TRACES", "v1/traces", { "Content-Type": "application/json" }),
      { serializeRequest: messageOf(source), deserializeResponse: (bytes) => this.#answered(bytes) },
      "otlp_http_json_span_exporter",
      { name: "span", countItems: countOf },
      undefined,
    );
  }

  send(spans: readonly SentSpan[]): void {
    const now: Exclude<SentSpan, SpansLater>[] = [];
    for (const span of spans) {
      if (typeof span === "function") this.#later.push(span);
      else now.push(span);
    }
    this.#add(now);
    if (this.#later.length >= LATER_MAX) this.#makeLater();
    if (this.#later.length > 0 || countOf(this.#spans) > 0)
      this.#timer ??= setTimeout(() => this.#flush(), SPANS_DELAY_MS).unref();
  }

  #makeLater(): void {
    const later = this.#later;
    this.#later = [];
    for (const make of later) this.#add(make());
  }

  #add(spans: readonly Exclude<SentSpan, SpansLater>[]): void {
    const own: string[] = [];
    const shared: string[] = [];
    for (const span of spans) {
      if (this.#waiting >= SPANS_WAITING_MAX) {
        this.#lost(1, "no room");
        continue;
      }
      this.#waiting++;
      if (typeof span === "string") shared.push(span);
      else (span.shared ? shared : own).push(spanText(span));
    }
    if (own.length > 0) this.#spans.own.add(own.join(), own.length);
    if (shared.length > 0) this.#spans.shared.add(shared.join(), shared.length);
    if (countOf(this.#spans) >= SPANS_PER_MESSAGE_MAX) this.#export();
  }

  counts() {
    return { sent: this.#sent, dropped: this.#dropped };
  }

  async stop(): Promise<void> {
    this.#flush();
    const late = new Promise<void>((resolve) => setTimeout(resolve, STOP_MS_MAX).unref());
    await Promise.race([this.#exporter.shutdown().catch(() => {}), late]);
  }

  #flush(): void {
    this.#makeLater();
    this.#export();
  }

  #export(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const spans = this.#spans;
    const count = countOf(spans);
    if (count === 0) return;
    // It makes the message at once, with a copy of the texts.
    this.#exporter.export(spans, ({ code, error }) => {
      this.#waiting -= count;
      if (code === 0) this.#sent += count;
      else this.#lost(count, error?.message.slice(0, SPAN_TEXT_MAX) ?? "refused");
    });
    spans.own.clear();
    spans.shared.clear();
  }

  /** A collector may take a part. @throws Error when it is no JSON: nothing is known then. */
  #answered(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const { rejectedSpans = 0, errorMessage = "refused" } =
      answerSchema.parse(JSON.parse(Buffer.from(bytes).toString())).partialSuccess ?? {};
    if (rejectedSpans === 0) return;
    this.#sent -= rejectedSpans;
    this.#lost(rejectedSpans, errorMessage.slice(0, SPAN_TEXT_MAX));
  }

  /** Says the first loss of a minute in the log. */
  #lost(spans: number, reason: string): void {
    this.#dropped += spans;
    const nowMs = performance.now();
    if (nowMs - this.#saidAtMs < LOSS_LOG_MS) return;
    this.#saidAtMs = nowMs;
    this.#log.warn(
      { url: this.#shownUrl, dropped: this.#dropped, reason },
      "spans were dropped: the collector is away",
    );
  }
}
