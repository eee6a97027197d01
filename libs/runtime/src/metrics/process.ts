/** What the process itself uses, under the names that other Node programs use, too. */
import { monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";
import { getHeapStatistics as heap } from "node:v8";
import { Buckets, CALL_BOUNDS_S } from "./buckets.ts";
import type { Metrics } from "./metrics.ts";

const LOOP_RESOLUTION_MS = 10;
/** Scrapes that come sooner share a window: two Prometheus servers would empty it for each other. */
const WINDOW_MS_MIN = 5_000;
const NS_PER_S = 1e9;
const QUANTILES = { p50: 50, p99: 99, max: 100 } as const;
/** Of `PerformanceEntry.detail.kind`. */
const GC_KINDS: Readonly<Record<number, string>> = { 1: "minor", 4: "major", 8: "incremental", 16: "weak" };
const GC_BOUNDS_S = CALL_BOUNDS_S.slice(0, 9).map((bound) => bound / 10);

/** Starts to watch loop and collector; ends with the process. */
export function addProcessMetrics(metrics: Metrics): void {
  const startedS = Date.now() / 1_000 - process.uptime();
  metrics.counter("process_cpu_seconds_total", "CPU time of this process.", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  metrics.gauge("process_start_time_seconds", "Unix time at which it started.", () => startedS);
  metrics.gauge("process_resident_memory_bytes", "Memory that it holds.", () => process.memoryUsage.rss());
  metrics.gauge("nodejs_heap_size_used_bytes", "Memory of JavaScript objects.", () => heap().used_heap_size);
  metrics.gauge("nodejs_heap_size_total_bytes", "Heap of V8.", () => heap().total_heap_size);
  metrics.gauge("nodejs_external_memory_bytes", "Memory of buffers outside of the heap.", () => heap().external_memory);
  addLoopDelay(metrics);
  addGc(metrics);
}

function addLoopDelay(metrics: Metrics): void {
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
  loop.enable();
  let begunMs = performance.now();
  let last = read(loop);
  metrics.gauge(
    "autellix_loop_delay_seconds",
    "How late the event loop was, in the last seconds before the scrape, by kind (p50, p99, max).",
    () => {
      if (performance.now() - begunMs >= WINDOW_MS_MIN || last.length === 0) {
        last = read(loop);
        loop.reset();
        begunMs = performance.now();
      }
      return last;
    },
  );
}

/** Node counts its own timer's period as delay. */
function read(loop: ReturnType<typeof monitorEventLoopDelay>): { labels: { kind: string }; value: number }[] {
  if (loop.count === 0) return [];
  return Object.entries(QUANTILES).map(([kind, percent]) => {
    const ns = percent === 100 ? loop.max : loop.percentile(percent);
    return { labels: { kind }, value: Math.max(0, ns / NS_PER_S - LOOP_RESOLUTION_MS / 1_000) };
  });
}

function addGc(metrics: Metrics): void {
  const byKind = new Map<string, Buckets>();
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const kind = GC_KINDS[(entry as { detail?: { kind?: number } }).detail?.kind ?? 0] ?? "other";
      const buckets = byKind.get(kind) ?? new Buckets(GC_BOUNDS_S);
      byKind.set(kind, buckets);
      buckets.add(entry.duration / 1_000);
    }
  });
  observer.observe({ entryTypes: ["gc"] });
  metrics.histogram("nodejs_gc_duration_seconds", "Pauses of the garbage collector, by kind.", function* () {
    for (const [kind, buckets] of byKind) yield { labels: { kind }, buckets };
  });
}
