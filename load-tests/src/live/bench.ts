/** All runs of `npm run bench:live`, also those of `npm run bench:gpu`. */
import type { EnginePreset } from "@autellix/engines/cost";
import { readPreset } from "@autellix/engines/preset-file";
import { calibrated } from "../calibrate/calibrated.ts";
import { modelFileOf } from "../engine-bench/model.ts";
import type { Progress } from "../run.ts";
import type { ProgramSpec } from "../workload.ts";
import { type Arm, runArm } from "./arm.ts";
import type { LiveOptions } from "./options.ts";
import { type ArmReport, armReport } from "./report.ts";
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
  const { onPhase, onStatus, signal } = hooks;
  const modelFile = await modelFileOf(options.modelFile, env, signal);
  onPhase("calibrating the simulator on this engine");
  const { gpu, batchCallsMax } = options;
  const measured = await calibrated(
    { modelFile, gpu, batchCallsMax, contextTokensMax: CONTEXT_TOKENS_MAX },
    { contextsMax: CALIBRATE_CONTEXT_TOKENS, onlyProbe: options.preset !== undefined, onProgress: onStatus, signal },
  );
  const preset = options.preset === undefined ? measured.preset : readPreset(options.preset);
  if (preset === undefined) throw new Error("the engine was not calibrated");
  return await runArms(options, { modelFile, preset, charsPerToken: measured.charsPerToken }, hooks);
}

/** An engine whose costs are known. */
export interface KnownEngine {
  modelFile: string;
  preset: EnginePreset;
  charsPerToken: number;
}

export async function runArms(
  options: LiveOptions,
  { modelFile, preset, charsPerToken }: KnownEngine,
  hooks: LiveHooks,
): Promise<LiveFindings> {
  const startedMs = performance.now();
  const { onPhase, onStatus, signal } = hooks;
  const { gpu, batchCallsMax } = options;
  const { planned, about } = planOf(options, { ...preset, batchCallsMax });
  for (const line of about) onPhase(line);
  const reports: ArmReport[] = [];
  for (const { arm, programs, residentCallsMax } of planned) {
    if (signal.aborted || performance.now() - startedMs > options.minutes * 60_000) break;
    const name = `${arm.protocol}, ${arm.policy}, ${arm.hostTier ? "with" : "without"} host tier`;
    onPhase(name);
    const result = await runArm({
      arm,
      programs,
      engineArgs: ["--model", modelFile],
      engineEnv: {
        AUTELLIX_BATCH_CALLS_MAX: String(batchCallsMax),
        AUTELLIX_RESIDENT_CALLS_MAX: String(residentCallsMax),
        AUTELLIX_CONTEXT_TOKENS_MAX: String(preset.contextTokensMax),
        AUTELLIX_GPU: gpu === "auto" ? "auto" : "false",
      },
      charsPerToken,
      contextTokensMax: preset.contextTokensMax,
      seed: options.seed,
      drainMsMax: DRAIN_MS_MAX,
      onProgress: (progress) => hooks.onProgress(name, progress),
      onStack: onStatus,
      signal,
    }).catch((error: unknown) => {
      if (signal.aborted) return undefined;
      throw error;
    });
    if (result !== undefined && !signal.aborted) reports.push(armReport(result, preset));
  }
  return { reports, missing: planned.length - reports.length, preset, about: about.join("\n") };
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
