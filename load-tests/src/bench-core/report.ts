/** The figures of a run beside what is asked of them: a table for people, Markdown for the repository. */
import type { Machine } from "../machine.ts";
import type { Cell } from "../table.ts";
import type { CoreLoad } from "./load.ts";
import type { MemoryResult } from "./memory.ts";
import { PAUSE_MS_MAX, type Pauses } from "./pauses.ts";
import type { SpeedResult } from "./speed.ts";

/** What is asked of `plas`, on one core of a present machine. */
export const WANTED = {
  callsPerSecond: 200_000,
  planP99Us: 100,
  /** Speed at 100,000 queued calls over speed at 1,000,000. */
  slowdown: 1.5,
  bytesPerCall: 600,
  bytesPerAloneCall: 1_000,
} as const;

export interface CoreReport {
  name: "bench-core";
  machine: Machine;
  /** Flags of the measured processes. */
  flags: readonly string[];
  measureMs: number;
  speeds: readonly SpeedResult[];
  memories: readonly MemoryResult[];
}

export interface Verdict {
  figure: string;
  measured: string;
  wanted: string;
  /** `reported`: nothing is asked. */
  met: "met" | "NOT met" | "reported";
}

export interface Table {
  head: string[];
  rows: Cell[][];
}

/** Calls per second inside `apply`. */
export function corePerSecond({ counts, coreMs }: SpeedResult): number {
  return (1_000 * counts.acked) / sum(coreMs);
}

/** Calls per second with the driver's own work. */
export function allPerSecond({ counts, elapsedMs }: SpeedResult): number {
  return (1_000 * counts.acked) / elapsedMs;
}

/** µs of the driver per call. */
export function driverUs(speed: SpeedResult): number {
  return (1_000 * (speed.elapsedMs - sum(speed.coreMs))) / speed.counts.acked;
}

function sum(coreMs: SpeedResult["coreMs"]): number {
  return coreMs.arrivals + coreMs.reports + coreMs.plans + coreMs.other;
}

function nameOf({ policy, queuedCalls, retains, arrivalMoments }: CoreLoad): string {
  const over = [retains ? "retains" : "", arrivalMoments > 1 ? `${arrivalMoments} arrival moments` : ""];
  return [`${policy}, ${queuedCalls.toLocaleString("en")} queued`, ...over.filter((text) => text !== "")].join(", ");
}

export function speedTable(speeds: readonly SpeedResult[]): Table {
  return {
    head: [
      "load",
      "calls/s core",
      "per CPU s",
      "calls/s all",
      "driver µs/call",
      "CPU %",
      "batch",
      "held",
      "arrival µs/call",
      "report µs/call",
      "plan µs/call",
      "plans/window",
    ],
    rows: speeds.map((speed) => {
      const { counts, coreMs } = speed;
      const perCall = (ms: number) => (1_000 * ms) / counts.acked;
      return [
        nameOf(speed.load),
        Math.round(corePerSecond(speed)),
        Math.round((corePerSecond(speed) * speed.elapsedMs) / speed.cpuMs),
        Math.round(allPerSecond(speed)),
        driverUs(speed),
        Math.round((100 * speed.cpuMs) / speed.elapsedMs),
        Math.round(speed.batchCalls),
        Math.round(speed.heldCalls),
        perCall(coreMs.arrivals),
        perCall(coreMs.reports),
        perCall(coreMs.plans),
        counts.plans / counts.windows,
      ];
    }),
  };
}

/** How long the core answers to nothing else, and what it keeps. */
export function latencyTable(speeds: readonly SpeedResult[]): Table {
  return {
    head: [
      "load",
      "plan p50 µs",
      "p99 µs",
      "max µs",
      "longest arrivals ms",
      "report ms",
      "other ms",
      "bytes/call after",
      "kept/ended call",
    ],
    rows: speeds.map(({ load, planUs, longestMs, steadyBytesPerCall, keptBytesPerEndedCall }) => [
      nameOf(load),
      planUs.p50,
      planUs.p99,
      planUs.max,
      longestMs.arrivals,
      longestMs.reports,
      longestMs.other,
      Math.round(steadyBytesPerCall),
      Math.round(keptBytesPerEndedCall),
    ]),
  };
}

export function pauseTable(speeds: readonly SpeedResult[]): Table {
  return {
    head: ["load", "collections", "share of time %", "longest ms", `longer than ${PAUSE_MS_MAX} ms`, "kinds"],
    rows: speeds.map(({ load, pauses, elapsedMs }) => [
      nameOf(load),
      pauses.count,
      (100 * pauses.totalMs) / elapsedMs,
      pauses.maxMs,
      pauses.long,
      kindsText(pauses),
    ]),
  };
}

function kindsText({ kinds }: Pauses): string {
  const texts = Object.entries(kinds).map(([kind, { count, maxMs }]) => `${count} ${kind} (≤ ${maxMs.toFixed(1)} ms)`);
  return texts.join(", ") || "none";
}

export function memoryTable(memories: readonly MemoryResult[]): Table {
  const shapes = {
    threads: (calls: number) => `${calls} calls of a program side by side`,
    named: () => "one call of a named program",
    alone: () => "one call that names no program",
  };
  return {
    head: ["queued", "policy", "calls", "bytes/call"],
    rows: memories.map(({ policy, shape, queuedCalls, callsPerProgram, bytesPerCall }) => [
      shapes[shape](callsPerProgram),
      policy,
      queuedCalls,
      Math.round(bytesPerCall),
    ]),
  };
}

/** What is asked of the first policy, and of which run; a depth that was not measured is left out. */
export function verdicts({ speeds, memories }: Pick<CoreReport, "speeds" | "memories">): Verdict[] {
  const plain = speeds.filter(({ load }) => !load.retains && load.arrivalMoments === 1);
  const policies = [...new Set(plain.map(({ load }) => load.policy))];
  return [
    ...policies.flatMap((policy) => ofSpeeds(plain.filter(({ load }) => load.policy === policy))),
    ...memories.map((memory): Verdict => {
      const max = memory.shape === "threads" ? WANTED.bytesPerCall : WANTED.bytesPerAloneCall;
      const figure = `${memory.policy}: bytes per queued call, ${memory.shape}, ${memory.queuedCalls.toLocaleString("en")}`;
      return verdict(figure, memory.bytesPerCall, max, "max");
    }),
  ];
}

/** One policy, the lowest depth first. */
function ofSpeeds(speeds: readonly SpeedResult[]): Verdict[] {
  const sorted = [...speeds].sort((a, b) => a.load.queuedCalls - b.load.queuedCalls);
  const [least, most] = [sorted[0], sorted.at(-1)];
  if (!least || !most) return [];
  const name = nameOf(least.load);
  const found = [
    verdict(`${name}: calls/s inside the core`, corePerSecond(least), WANTED.callsPerSecond, "min"),
    verdict(`${name}: planning p99, µs`, least.planUs.p99, WANTED.planP99Us, "max"),
    verdict(`${name}: collections longer than ${PAUSE_MS_MAX} ms`, least.pauses.long, 0, "max"),
  ];
  if (most === least) return found;
  const deep = nameOf(most.load);
  const times = (text: string) => `${deep}: ${text}, times ${least.load.queuedCalls.toLocaleString("en")}'s`;
  return [
    ...found,
    verdict(times("time per call"), corePerSecond(least) / corePerSecond(most), WANTED.slowdown, "max"),
    verdict(times("planning p99"), most.planUs.p99 / least.planUs.p99, WANTED.slowdown, "max"),
    {
      figure: `${deep}: longest collection, ms`,
      measured: most.pauses.maxMs.toFixed(1),
      wanted: "–",
      met: "reported",
    },
  ];
}

function verdict(figure: string, measured: number, bound: number, side: "min" | "max"): Verdict {
  const met = side === "min" ? measured >= bound : measured <= bound;
  const digits = bound < 10 && bound !== 0 ? 2 : 0;
  return {
    figure,
    measured: Number(measured.toFixed(digits)).toLocaleString("en"),
    wanted: `${side === "min" ? "≥" : "≤"} ${bound.toLocaleString("en")}`,
    met: met ? "met" : "NOT met",
  };
}

export function verdictTable(list: readonly Verdict[]): Table {
  return {
    head: ["figure", "measured", "wanted", ""],
    rows: list.map(({ figure, measured, wanted, met }) => [figure, measured, wanted, met]),
  };
}
