/**
 * What is offered: programs with their arrival, and the calls of each as a graph. Generated from a seed, or read from
 * a trace: JSON lines, one program a line, in any order of arrival.
 *
 *     {"arrivalMs":0,"kind":"react","calls":[{"promptTokens":80,"completionTokens":30},
 *       {"promptTokens":40,"completionTokens":30,"gapMs":250}]}
 *
 * A call may also have `thread` (default `main`), `parents` (indices of earlier calls; default: the last one of its
 * thread, else the last call before it was forked, else none), and `prompt` (the text itself). `promptTokens` counts
 * what is new: a call also carries the conversation of its first parent.
 */
import { z } from "zod";
import { createRandom, type Random } from "./random.ts";

export const PROGRAMS_MAX = 100_000;
export const CALLS_PER_PROGRAM_MAX = 1_000;
export const TOKENS_PER_CALL_MAX = 100_000;

export interface CallSpec {
  /** New tokens, beside the conversation of the first parent. */
  promptTokens: number;
  completionTokens: number;
  /** Time between the end of the last parent and this call: a tool, or a person who thinks. */
  gapMs: number;
  thread: string;
  /** Indices of earlier calls that this one waits for. */
  parents: number[];
  /** The new text itself; made up when it is left out. */
  prompt?: string | undefined;
}

export interface ProgramSpec {
  kind: string;
  arrivalMs: number;
  calls: CallSpec[];
}

export const workloadNames = ["single", "chat", "react", "fan", "mixed"] as const;
export type WorkloadName = (typeof workloadNames)[number];

export interface WorkloadOptions {
  workload: WorkloadName;
  /** Programs per second, Poisson. */
  rate: number;
  durationMs: number;
  seed: number;
  programsMax?: number;
  /** Multiplies every prompt and completion. */
  tokenScale?: number;
}

/**
 * Sizes are for one small model on a CPU: about a tenth of the tokens of the paper's chat and tool workloads, with
 * their shapes (calls per program, spread, gaps).
 */
const makers: Record<Exclude<WorkloadName, "mixed">, (random: Random) => CallSpec[]> = {
  single: (random) => [call(random, { prompt: 40, completion: 30 })],
  chat: (random) => chain(random, random.geometric(4), { prompt: 30, completion: 40, variation: 1.2, gapMs: 2_000 }),
  react: (random) => chain(random, random.geometric(7), { prompt: 60, completion: 12, variation: 0.8, gapMs: 900 }),
  fan(random) {
    const width = random.int(2, 5);
    const branches = Array.from({ length: width }, (_, index) =>
      call(random, { prompt: 20, completion: 25, thread: `branch-${index + 1}`, parents: [0] }),
    );
    const join = call(random, { prompt: 30, completion: 30, parents: branches.map((_, index) => index + 1) });
    return [call(random, { prompt: 50, completion: 20 }), ...branches, join];
  },
};

interface CallShape {
  prompt: number;
  completion: number;
  variation?: number;
  gapMs?: number;
  thread?: string;
  parents?: number[];
}

function call(random: Random, shape: CallShape): CallSpec {
  const variation = shape.variation ?? 0.5;
  return {
    promptTokens: tokens(random.logNormal(shape.prompt, variation)),
    completionTokens: tokens(random.logNormal(shape.completion, variation)),
    gapMs: shape.gapMs === undefined ? 0 : Math.round(random.exponential(shape.gapMs)),
    thread: shape.thread ?? "main",
    parents: shape.parents ?? [],
  };
}

function chain(random: Random, length: number, shape: CallShape): CallSpec[] {
  const first: CallShape = { ...shape, gapMs: 0 };
  return Array.from({ length: Math.min(length, CALLS_PER_PROGRAM_MAX) }, (_, index) =>
    index === 0 ? call(random, first) : call(random, { ...shape, parents: [index - 1] }),
  );
}

function tokens(count: number): number {
  return Math.min(TOKENS_PER_CALL_MAX, Math.max(1, Math.round(count)));
}

/** @returns programs by arrival; the same for the same options on every machine. */
export function generateWorkload(options: WorkloadOptions): ProgramSpec[] {
  const { workload, rate, durationMs, seed, programsMax = PROGRAMS_MAX, tokenScale = 1 } = options;
  if (!(rate > 0) || !(durationMs > 0)) throw new RangeError("rate and duration must be above 0");
  const random = createRandom(seed);
  const kinds = Object.keys(makers) as Exclude<WorkloadName, "mixed">[];
  const programs: ProgramSpec[] = [];
  for (let atMs = random.exponential(1_000 / rate); atMs < durationMs; atMs += random.exponential(1_000 / rate)) {
    if (programs.length >= Math.min(programsMax, PROGRAMS_MAX)) break;
    const kind = workload === "mixed" ? (kinds[random.int(0, kinds.length - 1)] ?? "single") : workload;
    const calls = makers[kind](random).map((spec) => ({
      ...spec,
      promptTokens: tokens(spec.promptTokens * tokenScale),
      completionTokens: tokens(spec.completionTokens * tokenScale),
    }));
    programs.push({ kind, arrivalMs: Math.round(atMs), calls });
  }
  return programs;
}

const tokenCount = z.int().positive().max(TOKENS_PER_CALL_MAX);
const traceLine = z.strictObject({
  arrivalMs: z.number().nonnegative(),
  kind: z.string().min(1).default("program"),
  calls: z
    .array(
      z.strictObject({
        promptTokens: tokenCount,
        completionTokens: tokenCount,
        gapMs: z.number().nonnegative().default(0),
        thread: z.string().min(1).default("main"),
        parents: z.array(z.int().nonnegative()).optional(),
        prompt: z.string().optional(),
      }),
    )
    .min(1)
    .max(CALLS_PER_PROGRAM_MAX),
});

/** @throws Error that names the line and the field. */
export function parseTrace(text: string): ProgramSpec[] {
  const programs: ProgramSpec[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    if (programs.length >= PROGRAMS_MAX) throw new Error(`a trace has at most ${PROGRAMS_MAX} programs`);
    programs.push(parseLine(line, index + 1));
  }
  return programs.sort((a, b) => a.arrivalMs - b.arrivalMs);
}

function parseLine(line: string, number: number): ProgramSpec {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new Error(`line ${number} of the trace is no JSON`, { cause });
  }
  const parsed = traceLine.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new Error(`line ${number} of the trace: ${issue?.path.join(".")} ${issue?.message}`);
  }
  const { arrivalMs, kind, calls } = parsed.data;
  return {
    arrivalMs,
    kind,
    calls: calls.map((spec, index) => {
      const parents = spec.parents ?? defaultParents(calls, index);
      const ahead = parents.find((parent) => parent >= index);
      if (ahead !== undefined)
        throw new Error(`line ${number} of the trace: call ${index} names parent ${ahead}, which is not before it`);
      return { ...spec, parents };
    }),
  };
}

function defaultParents(calls: readonly { thread: string }[], index: number): number[] {
  const thread = calls[index]?.thread;
  const before = calls.slice(0, index);
  const own = before.findLastIndex((other) => other.thread === thread);
  const main = before.findLastIndex((other) => other.thread === "main");
  const parent = own >= 0 ? own : main;
  return parent >= 0 ? [parent] : [];
}

export function formatTrace(programs: readonly ProgramSpec[]): string {
  return programs.map((program) => `${JSON.stringify(program)}\n`).join("");
}
