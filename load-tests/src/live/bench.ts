/** All runs of `npm run bench:live`, also those of `npm run bench:gpu`. */
import type { EnginePreset } from "@autellix/engines/cost";
import { readPreset } from "@autellix/engines/preset-file";
import type { Calibrated, CalibratedEngine, CalibratedOptions } from "../calibrate/calibrated.ts";
import type { Samples } from "../calibrate/samples.ts";
import { modelFileOf } from "../engine-bench/model.ts";
import { startPinned } from "../engine-bench/pinned-child.ts";
import type { Progress } from "../run.ts";
import type { ProgramSpec } from "../workload.ts";
import { type Arm, type ArmResult, runArm } from "./arm.ts";
import type { LiveOptions } from "./options.ts";
import { paceOf, presetAround } from "./pace.ts";
import { type ArmReport, armReport, type Costs } from "./report.ts";
import { liveWorkload, programsAtOnce } from "./workload.ts";

export interface LiveHooks {
  onPhase: (line: string) => void;
  onStatus: (line: string) => void;
  onProgress: (name: string, progress: Progress) => void;
  signal: AbortSignal;
}

export interface LiveFindings {
  reports: ArmReport[];
  /** Runs that were not made. */
  missing: number;
  preset: EnginePreset;
  /** Programs, memory, load. */
  about: string;
}

/** Contexts on the engine: this share of the programs that are under way at once. */
const MEMORY_SHARE = 1 / 3;
const CONTEXT_TOKENS_MAX = 2_048;
const DRAIN_MS_MAX = 600_000;
/** Calibrated no further: the programs' contexts are shorter. */
const CALIBRATE_CONTEXT_TOKENS = 1_000;

interface Planned {
  arm: Arm;
  programs: readonly ProgramSpec[];
  residentCallsMax: number;
}

/** @param env says where the default model is cached. */
export async function runLive(options: LiveOptions, env: NodeJS.ProcessEnv, hooks: LiveHooks): Promise<LiveFindings> {
  const { onPhase, signal } = hooks;
  const modelFile = await modelFileOf(options.modelFile, env, signal);
  const { gpu, batchCallsMax } = options;
  const calibrate = async (onlyProbe: boolean, sliceTokens?: number): Promise<Calibrated> => {
    onPhase("calibrating the simulator on this engine");
    return await calibratedApart(
      { modelFile, gpu, batchCallsMax, contextTokensMax: CONTEXT_TOKENS_MAX, sliceTokens },
      { contextsMax: CALIBRATE_CONTEXT_TOKENS, onlyProbe },
      signal,
    );
  };
  const measured = await calibrate(options.preset !== undefined);
  const preset = options.preset === undefined ? measured.preset : readPreset(options.preset);
  if (preset === undefined) throw new Error("the engine was not calibrated");
  const { charsPerToken, samples } = measured;
  const again = samples && {
    first: samples,
    measure: async () => (await unlessStopped(signal, () => calibrate(false, preset.sliceTokens)))?.samples,
  };
  return await runArms(options, { modelFile, preset, charsPerToken, again }, hooks);
}

/**
 * In a process that is as new as each run's agent: the second engine of a process is up to 8 % faster than the first.
 *
 * @throws when it is stopped.
 */
async function calibratedApart(
  engine: CalibratedEngine,
  options: CalibratedOptions,
  signal: AbortSignal,
): Promise<Calibrated> {
  const child = startPinned(undefined);
  const stop = () => void child.stop();
  signal.addEventListener("abort", stop, { once: true });
  try {
    return (await child.ask({ kind: "calibrate", engine, options })) as Calibrated;
  } finally {
    signal.removeEventListener("abort", stop);
    await child.stop();
  }
}

/** An engine whose costs are known. */
export interface KnownEngine {
  modelFile: string;
  preset: EnginePreset;
  charsPerToken: number;
  /** Its costs are measured again after each run, unless that is stopped. Without it the preset is used as it is. */
  again?: { first: Samples; measure: () => Promise<Samples | undefined> } | undefined;
}

export async function runArms(options: LiveOptions, engine: KnownEngine, hooks: LiveHooks): Promise<LiveFindings> {
  const startedMs = performance.now();
  const { onPhase, signal } = hooks;
  const { preset, again } = engine;
  const { planned, about } = planOf(options, { ...preset, batchCallsMax: options.batchCallsMax });
  for (const line of about) onPhase(line);
  const reports: ArmReport[] = [];
  let before = again?.first;
  for (const plan of planned) {
    if (signal.aborted || performance.now() - startedMs > options.minutes * 60_000) break;
    onPhase(nameOf(plan.arm));
    const result = await runPlanned(plan, options, engine, hooks);
    if (result === undefined || signal.aborted) break;
    const after = await again?.measure();
    const costs: Costs = { preset };
    if (again !== undefined && before !== undefined && after !== undefined) {
      costs.around = presetAround(preset, before, after);
      costs.pace = { before: paceOf(again.first, before), after: paceOf(again.first, after) };
    }
    reports.push(armReport(result, costs));
    before = after;
  }
  return { reports, missing: planned.length - reports.length, preset, about: about.join("\n") };
}

function nameOf({ protocol, policy, hostTier }: Arm): string {
  return `${protocol}, ${policy}, ${hostTier ? "with" : "without"} host tier`;
}

/** @returns undefined when it was stopped. */
async function runPlanned(
  { arm, programs, residentCallsMax }: Planned,
  { batchCallsMax, gpu, seed }: LiveOptions,
  { modelFile, preset, charsPerToken }: KnownEngine,
  { onProgress, onStatus, signal }: LiveHooks,
): Promise<ArmResult | undefined> {
  return await unlessStopped(signal, () =>
    runArm({
      arm,
      programs,
      engineArgs: ["--model", modelFile],
      engineEnv: {
        AUTELLIX_BATCH_CALLS_MAX: String(batchCallsMax),
        AUTELLIX_RESIDENT_CALLS_MAX: String(residentCallsMax),
        AUTELLIX_CONTEXT_TOKENS_MAX: String(preset.contextTokensMax),
        AUTELLIX_GPU: gpu === "auto" ? "auto" : "false",
        // Each start measures it anew, and between two sizes comes out with one or the other.
        AUTELLIX_SLICE_TOKENS: String(preset.sliceTokens),
      },
      charsPerToken,
      contextTokensMax: preset.contextTokensMax,
      seed,
      drainMsMax: DRAIN_MS_MAX,
      onProgress: (progress) => onProgress(nameOf(arm), progress),
      onStack: onStatus,
      signal,
    }),
  );
}

async function unlessStopped<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

function planOf(options: LiveOptions, preset: EnginePreset): { planned: Planned[]; about: string[] } {
  const { seconds, seed, batchCallsMax } = options;
  const planned: Planned[] = [];
  const about: string[] = [];
  for (const [protocol, load] of [
    ["finite", options.finiteLoad],
    ["steady", options.steadyLoad],
  ] as const) {
    if (load === 0) continue;
    const { programs, workMs } = liveWorkload({ load, seconds, seed }, preset);
    const atOnce = programsAtOnce(programs, preset);
    const third = Math.max(batchCallsMax, Math.round(MEMORY_SHARE * atOnce));
    const residentCallsMax = options.residentCallsMax ?? third;
    const long = programs.filter(({ kind }) => kind === "long").length;
    about.push(
      `${protocol}: ${programs.length} programs (${long} long) with ${(workMs / 1_000).toFixed(0)} s of work arrive in ${seconds} s; ` +
        `at most ${atOnce} under way at once (first come, first served, simulated), memory for ${residentCallsMax} contexts`,
    );
    for (const hostTier of options.tiers)
      for (const policy of options.policies)
        planned.push({ arm: { protocol, policy, hostTier }, programs, residentCallsMax });
  }
  return { planned, about };
}
