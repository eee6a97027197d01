/** A preset for an engine that is opened only to be calibrated. */
import type { EnginePreset } from "@autellix/engines/cost";
import { llamaOptions, openEngine } from "../engine-bench/open-engine.ts";
import { type Fitted, fit } from "./fit.ts";
import { samplePlan } from "./plan.ts";
import { presetOf } from "./preset.ts";
import { charsPerTokenOf, type Samples, sample } from "./samples.ts";

export interface CalibratedEngine {
  modelFile: string;
  gpu: "auto" | false;
  batchCallsMax: number;
  contextTokensMax: number;
  /** Prompt tokens per step; default: measured at the start. */
  sliceTokens?: number | undefined;
}

export interface CalibratedOptions {
  contextsMax: number;
  /** Only how its tokenizer counts. */
  onlyProbe: boolean;
}

export interface Calibrated {
  charsPerToken: number;
  preset?: EnginePreset;
  fitted?: Fitted;
  samples?: Samples;
}

const REPEATS = 5;

export async function calibrated(
  { modelFile, gpu, batchCallsMax, contextTokensMax, sliceTokens }: CalibratedEngine,
  { contextsMax, onlyProbe }: CalibratedOptions,
): Promise<Calibrated> {
  const engine = await openEngine(
    llamaOptions({ modelFile, gpu, batchCallsMax, residentCallsMax: 2 * batchCallsMax, contextTokensMax, sliceTokens }),
  );
  try {
    const charsPerToken = await charsPerTokenOf(engine);
    if (onlyProbe) return { charsPerToken };
    const samples = await sample(engine, samplePlan(engine.info, contextsMax, REPEATS));
    const fitted = fit(samples);
    return { charsPerToken, preset: presetOf(engine.info, samples, fitted), fitted, samples };
  } finally {
    await engine.shutdown();
  }
}
