/** What is measured on the engine itself, through the port: its costs, and moving contexts in pieces. */
import type { Engine } from "@autellix/engines";
import type { EnginePreset } from "@autellix/engines/cost";
import { parseChat } from "@autellix/protocol";
import { type Fitted, fit } from "../calibrate/fit.ts";
import { samplePlan } from "../calibrate/plan.ts";
import { presetOf } from "../calibrate/preset.ts";
import { charsPerTokenOf, type Samples, sample } from "../calibrate/samples.ts";
import { llamaOptions, openEngine } from "../engine-bench/open-engine.ts";
import { median } from "../stats.ts";
import type { GpuBenchOptions } from "./options.ts";

/** The same tokens out and back: in one transfer, and in as many as there are pieces. */
export interface PieceSwaps {
  tokens: number;
  /** As near to a block as a prompt can be: a transfer of ours is always a whole context. */
  pieceTokens: number;
  callMs: number;
  piecesMs: number;
}

export interface MeasuredEngine {
  preset: EnginePreset;
  fitted: Fitted;
  samples: Samples;
  charsPerToken: number;
  /** Undefined without a host tier. */
  swaps: PieceSwaps | undefined;
}

export interface MeasureHooks {
  onProgress: (line: string) => void;
  signal: AbortSignal;
}

export async function measureEngine(
  { live, contextTokensMax, repeats }: GpuBenchOptions,
  modelFile: string,
  { onProgress, signal }: MeasureHooks,
): Promise<MeasuredEngine> {
  const { gpu, batchCallsMax } = live;
  const engine = await openEngine(
    llamaOptions({ modelFile, gpu, batchCallsMax, residentCallsMax: 2 * batchCallsMax, contextTokensMax }),
  );
  try {
    const charsPerToken = await charsPerTokenOf(engine);
    const samples = await sample(engine, { ...samplePlan(engine.info, undefined, repeats), onProgress, signal });
    const fitted = fit(samples);
    onProgress("transfers in pieces");
    const swaps = await swapInPieces(engine, samples, repeats);
    return { preset: presetOf(engine.info, samples, fitted), fitted, samples, charsPerToken, swaps };
  } finally {
    await engine.shutdown();
  }
}

/** Whole contexts come from the samples; a piece is the smallest context that there is. */
async function swapInPieces(engine: Engine, { swaps }: Samples, repeats: number): Promise<PieceSwaps | undefined> {
  const tokens = swaps.reduce((most, one) => Math.max(most, one.tokens), 0);
  if (tokens === 0) return undefined;
  const whole = (direction: "out" | "in") =>
    median(swaps.filter((one) => one.direction === direction && one.tokens === tokens).map((one) => one.durationMs));
  const body = { messages: [{ role: "user", content: "a" }], max_tokens: 2 };
  const call = await engine.open({ key: "bench/piece", chat: parseChat(body), body, forcedIds: [] });
  try {
    while (call.completionTokens === 0) await engine.step([call]);
    const pieceTokens = call.contextTokens;
    const times: number[] = [];
    for (let repeat = 0; repeat < repeats * PIECE_REPEATS; repeat++) {
      const [out, back] = [await engine.swapOut(call), await engine.swapIn(call)];
      if (out === undefined || back === undefined) return undefined;
      times.push(out.durationMs + back.durationMs);
    }
    const pieces = Math.ceil(tokens / pieceTokens);
    return { tokens, pieceTokens, callMs: whole("out") + whole("in"), piecesMs: pieces * median(times) };
  } finally {
    await engine.close(call);
  }
}

/** They are short. */
const PIECE_REPEATS = 10;
