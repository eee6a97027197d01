/**
 * The simulator against the live system: the same calls at the same times on the same engine, and the order in which
 * calls are dispatched for the first time.
 *
 * The live engine computes the prompt of one call in a step; all prompts have one size here, which is the simulated
 * system's chunk. Its steps are long (a model on a CPU), so that messages and timers take a small share of them.
 */
import { mkdtemp, open, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { policies } from "@autellix/core";
import { presets } from "@autellix/engines/cost";
import type { TracedCall } from "@autellix/protocol/call-trace";
import {
  programsOfTrace,
  Random,
  RecordedCalls,
  type Replay,
  recordedConfig,
  replay,
  type System,
  simulate,
  systems,
  traceOf,
} from "@autellix/simulation";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestStack, type TestStack } from "../support/stack.ts";

const PRESET = "smollm2-cpu";
const BATCH_CALLS_MAX = 4;
/** Room for every context, so that no call is computed twice. */
const RESIDENT_CALLS_MAX = 64;
/** In each burst every program calls twice; the next burst comes when little is left of it. */
const BURSTS = 6;
const BURST_GAP_MS = 4_200;
const BURST_MS = 300;
const PROGRAMS = 20;
const CALLS_OF_BURST = 2;
/** Answers of a program have one size, those of different programs differ: so does what they attain. */
const SIZES = 10;
const TAU_MIN = 0.98;
/** The order of arrival, and that of another policy, stay below it. */
const OTHER_TAU_MAX = 0.96;

interface Planned {
  /** Of one length, each with a beginning of its own: what the engine keeps of ended calls shortens none of them. */
  prompt: string;
  atMs: number;
  program: number;
  tokens: number;
}

let folder: string;
let recorded: Replay;
let trace: TracedCall[];
/** Calls in the order of their first dispatch. */
let live: string[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "autellix-test-"));
  const stack = await startTestStack({
    args: ["--engine", "simulated", "--preset", PRESET, "--policy", "plas", "--input-log", join(folder, "in.jsonl")],
    env: {
      AUTELLIX_BATCH_CALLS_MAX: String(BATCH_CALLS_MAX),
      AUTELLIX_RESIDENT_CALLS_MAX: String(RESIDENT_CALLS_MAX),
    },
  });
  try {
    await Promise.all(plannedCalls().map((call) => ask(stack, call)));
  } finally {
    await stack.stop();
  }
  const calls = new RecordedCalls();
  const dispatched = new Map<string, number>();
  const file = await open(join(folder, (await readdir(folder))[0] ?? ""));
  recorded = await replay(file.readLines(), ({ input, commands }) => {
    calls.hear(input);
    for (const command of commands) {
      if (command.kind !== "sendPlan") continue;
      const { number, run, reserve } = command.plan;
      for (const { call } of [...run, ...reserve]) if (!dispatched.has(call)) dispatched.set(call, number);
    }
  });
  trace = traceOf(calls.all()).calls;
  live = inOrder(trace, (call) => dispatched.get(call.call));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function plannedCalls(): Planned[] {
  const random = Random.from(7);
  return Array.from({ length: BURSTS * PROGRAMS * CALLS_OF_BURST }, (_, index) => {
    const program = index % PROGRAMS;
    const burst = Math.floor(index / (PROGRAMS * CALLS_OF_BURST));
    const prompt = String(index).padStart(4, "0");
    return { prompt, program, tokens: 1 + (program % SIZES), atMs: burst * BURST_GAP_MS + random.next() * BURST_MS };
  });
}

async function ask(stack: TestStack, { prompt, atMs, program, tokens }: Planned): Promise<void> {
  await new Promise((done) => setTimeout(done, atMs));
  const response = await fetch(`${stack.urls[0]}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "Autellix-Program-Id": `program ${program}` },
    body: JSON.stringify({ model: "tiny", messages: [{ role: "user", content: prompt }], max_tokens: tokens }),
  });
  expect(response.status).toBe(200);
  await response.text();
}

/** @returns the names of calls by `time`, those of one time in the order of their arrival. */
function inOrder(calls: readonly TracedCall[], time: (call: TracedCall) => number | undefined): string[] {
  const timed = calls.map((call) => {
    const at = time(call);
    if (at === undefined) throw new Error(`call ${call.call} was never dispatched`);
    return { call, at };
  });
  return timed.sort((a, b) => a.at - b.at || a.call.arrivedAtMs - b.call.arrivedAtMs).map(({ call }) => call.call);
}

/** The recorded calls at their recorded times in the simulator. @returns them in the order of their first dispatch. */
function simulated(policy: System["policy"]): string[] {
  const { programs } = programsOfTrace(trace, "open");
  const preset = {
    ...presets[PRESET],
    batchCallsMax: BATCH_CALLS_MAX,
    residentCallsMax: RESIDENT_CALLS_MAX,
  };
  const system: System = {
    ...systems.plas,
    ...recordedConfig(recorded.header.config),
    name: "as the live one",
    policy,
    chunkTokens: trace[0]?.promptTokens ?? 0,
    cache: "none",
    preemption: "recompute",
  };
  const { calls = [] } = simulate({ programs, engines: 1, preset, system, plansOn: "arrival", keepCalls: true });
  const dispatchedAt = new Map<string, number>();
  for (const { program, call, dispatchedAtMs } of calls) {
    // The trace is by arrival, and so are the calls of each of its programs.
    const name = trace.filter((traced) => traced.program === programs[program]?.id)[call]?.call ?? "";
    dispatchedAt.set(name, dispatchedAtMs);
  }
  return inOrder(trace, (call) => dispatchedAt.get(call.call));
}

/** Kendall's τ of two orders of the same things: 1 the same, 0 unrelated, −1 reversed. */
function kendallTau(one: readonly string[], other: readonly string[]): number {
  const places = new Map(other.map((name, place) => [name, place]));
  const order = one.map((name) => places.get(name) ?? Number.NaN);
  let discordant = 0;
  for (const [index, place] of order.entries())
    for (const later of order.slice(index + 1)) if (!(place < later)) discordant++;
  return 1 - (4 * discordant) / (order.length * (order.length - 1));
}

test("Kendall's τ counts the pairs in the wrong order", () => {
  expect(kendallTau(["a", "b", "c", "d"], ["a", "b", "c", "d"])).toBe(1);
  expect(kendallTau(["a", "b", "c", "d"], ["d", "c", "b", "a"])).toBe(-1);
  expect(kendallTau(["a", "b", "c", "d"], ["b", "a", "c", "d"])).toBeCloseTo(2 / 3);
});

test("the live run has been recorded: all calls, one size of prompt, the same commands", () => {
  expect(recorded.divergence).toBeUndefined();
  expect(trace).toHaveLength(BURSTS * PROGRAMS * CALLS_OF_BURST);
  expect(new Set(trace.map(({ promptTokens }) => promptTokens)).size).toBe(1);
  expect(trace.every(({ status }) => status === "completed")).toBe(true);
});

test(`the simulator dispatches in the order of the live run, with Kendall's τ ≥ ${TAU_MIN}`, () => {
  const tau = kendallTau(simulated(policies.plas), live);
  const arrivalTau = kendallTau(
    trace.map(({ call }) => call),
    live,
  );
  const fcfsTau = kendallTau(simulated(policies.fcfs), live);
  console.info(
    `${live.length} calls; τ of the simulator's order with the live one ${tau.toFixed(4)}; for comparison: ` +
      `the order of arrival ${arrivalTau.toFixed(4)}, the simulator under fcfs ${fcfsTau.toFixed(4)}`,
  );
  expect(tau).toBeGreaterThanOrEqual(TAU_MIN);
  expect(arrivalTau).toBeLessThan(OTHER_TAU_MAX);
  expect(fcfsTau).toBeLessThan(OTHER_TAU_MAX);
});
