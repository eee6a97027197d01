/**
 * The numbers of one process for Prometheus. Nothing is pushed into this registry: services count into plain numbers,
 * and each metric is a function that reads them at a scrape. So machines stay pure, and without a registry nothing is
 * paid for.
 *
 * Names are `autellix_<noun>_<unit>`, in words of the glossary, base units (seconds, bytes) and with `_total` for what only
 * rises. Labels have few values: pool, engine, level, status, code, cause, kind; never what a client can choose, such as a
 * program, a call, a tenant or a model.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { type Metric as PromMetric, Registry } from "prom-client";
import type { Buckets } from "./buckets.ts";

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  labels?: Labels;
  value: number;
}

export interface HistogramSample {
  labels?: Labels;
  buckets: Pick<Buckets, "bounds" | "counts" | "sum">;
}

/** A number, or one for each set of labels. */
export type Read = () => number | Iterable<Sample> | Promise<number | Iterable<Sample>>;
export type ReadHistogram = () => Iterable<HistogramSample>;

const NAME = /^(autellix|process|nodejs)_[a-z0-9_]+$/;
/** Samples of one metric in one scrape; what is beyond is left out, and counted in `autellix_metrics_cut_total`. */
export const SAMPLES_MAX = 2_000;

/** A scrape works so long before it lets others go first. */
const TURN_MS_MAX = 0.3;

interface Line {
  metricName?: string;
  labels: Labels;
  value: number;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #names: string[] = [];
  #cut = 0;

  constructor() {
    this.counter(
      "autellix_metrics_cut_total",
      "Samples that were left out of scrapes: more than a metric may have.",
      () => this.#cut,
    );
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Labels of every sample of this process, such as its pool. */
  label(labels: Labels): void {
    this.#registry.setDefaultLabels(labels);
  }

  /** What only rises. @throws Error when the name breaks the rules or is there already. */
  counter(name: string, help: string, read: Read): void {
    if (!name.endsWith("_total")) throw new Error(`a counter's name ends in _total: ${name}`);
    this.#add(name, help, "counter", async () => linesOf(await read()));
  }

  gauge(name: string, help: string, read: Read): void {
    if (name.endsWith("_total")) throw new Error(`only a counter's name ends in _total: ${name}`);
    this.#add(name, help, "gauge", async () => linesOf(await read()));
  }

  histogram(name: string, help: string, read: ReadHistogram): void {
    this.#add(name, help, "histogram", async () => [...read()].flatMap((sample) => histogramLines(name, sample)));
  }

  /** What Prometheus reads. Others have their turn in between: a scrape must not make a plan late. */
  async text(): Promise<string> {
    const parts: string[] = [];
    let begunMs = performance.now();
    for (const name of this.#names) {
      parts.push(await this.#registry.getSingleMetricAsString(name));
      if (performance.now() - begunMs < TURN_MS_MAX) continue;
      await nextTurn();
      begunMs = performance.now();
    }
    return `${parts.join("\n\n")}\n`;
  }

  #add(name: string, help: string, type: string, lines: () => Promise<Line[]>): void {
    if (!NAME.test(name)) throw new Error(`not a metric's name: ${name}`);
    const get = async () => {
      const values = await lines();
      this.#cut += Math.max(0, values.length - SAMPLES_MAX);
      return { name, help, type, aggregator: "sum", values: values.slice(0, SAMPLES_MAX) };
    };
    // All that the registry uses of a metric; its own classes keep numbers, and ours are kept elsewhere.
    this.#registry.registerMetric({ name, help, get } as unknown as PromMetric);
    this.#names.push(name);
  }
}

function linesOf(read: number | Iterable<Sample>): Line[] {
  if (typeof read === "number") return [{ labels: {}, value: read }];
  return [...read].map(({ labels = {}, value }) => ({ labels, value }));
}

function histogramLines(name: string, { labels = {}, buckets }: HistogramSample): Line[] {
  let count = 0;
  const lines: Line[] = buckets.bounds.map((bound, place) => {
    count += buckets.counts[place] ?? 0;
    return { metricName: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: count };
  });
  count += buckets.counts[buckets.bounds.length] ?? 0;
  lines.push({ metricName: `${name}_bucket`, labels: { ...labels, le: "+Inf" }, value: count });
  lines.push({ metricName: `${name}_sum`, labels, value: buckets.sum });
  lines.push({ metricName: `${name}_count`, labels, value: count });
  return lines;
}
