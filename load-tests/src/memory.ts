/**
 * Memory of processes over time, and whether it is flat.
 */
import type { ProcessUse } from "./processes.ts";
import { median } from "./stats.ts";
import type { Plot } from "./svg.ts";

export const SAMPLES_MAX = 100_000;
const SAMPLE_MS = 1_000;
/** Share of the samples after the warm-up that stands for its beginning and its end. */
const WINDOW_SHARE = 0.25;

export interface MemorySample {
  atMs: number;
  processes: ProcessUse[];
}

export interface MemoryTrend {
  name: string;
  /** Medians of the first and last quarter after the warm-up. */
  beforeBytes: number;
  afterBytes: number;
  /** 0.05 = 5 % more at the end. */
  growth: number;
}

/** Takes a sample each second until `stop`. */
export function watchMemory(read: () => ProcessUse[]): { samples: MemorySample[]; stop(): void } {
  const samples: MemorySample[] = [];
  const startedMs = performance.now();
  const timer = setInterval(() => {
    if (samples.length < SAMPLES_MAX) samples.push({ atMs: performance.now() - startedMs, processes: read() });
  }, SAMPLE_MS);
  return { samples, stop: () => clearInterval(timer) };
}

/** @returns by process; those that were not there all the time are left out. */
export function memoryTrends(samples: readonly MemorySample[], warmUpMs: number): MemoryTrend[] {
  const warm = samples.filter((sample) => sample.atMs >= warmUpMs);
  const window = Math.max(1, Math.floor(warm.length * WINDOW_SHARE));
  return (warm[0]?.processes ?? []).flatMap(({ pid, name }) => {
    const series = warm.flatMap((sample) => sample.processes.find((use) => use.pid === pid)?.rssBytes ?? []);
    if (series.length < warm.length) return [];
    const beforeBytes = median(series.slice(0, window));
    const afterBytes = median(series.slice(-window));
    return [{ name, beforeBytes, afterBytes, growth: afterBytes / beforeBytes - 1 }];
  });
}

export function memoryPlot(title: string, samples: readonly MemorySample[]): Plot {
  const names = [...new Set(samples.flatMap((sample) => sample.processes.map((use) => use.name)))];
  const lines = names.map((name) => ({
    name,
    points: samples.flatMap(({ atMs, processes }) => {
      const use = processes.find((process) => process.name === name);
      return use ? [{ x: atMs / 1_000, y: use.rssBytes / 2 ** 20 }] : [];
    }),
  }));
  return { title, xLabel: "s", yLabel: "memory (MiB)", lines };
}
