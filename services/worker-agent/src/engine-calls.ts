/** What the engine and the object store say, in the machine's words. */
import type { EngineCall, EngineCounters, StepCall } from "@autellix/engines";
import {
  type AnswerDelta,
  AutellixError,
  type Bus,
  type CallAddress,
  type Counters,
  type ErrorCode,
  fetchCall,
  getBody,
} from "@autellix/protocol";
import type { ContextPlace, FetchedBody, SteppedCall } from "./events.ts";

/** Foreign errors are told as one sentence of ours: theirs may quote a prompt (S12). */
export function callError(error: unknown): { code: ErrorCode; message: string; param?: string } {
  if (error instanceof AutellixError) {
    const { code, message, param } = error;
    return { code, message, ...(param === undefined ? {} : { param }) };
  }
  return { code: "engine_error", message: "The engine could not serve this call." };
}

export function steppedCall(id: number, stepped: StepCall): SteppedCall {
  const { call, prefilledTokens, tokens, ids, text, deltas, finish, error } = stepped;
  const { promptTokens, contextTokens, completionTokens, cachedTokens, preemptible } = call;
  return {
    id,
    ...{ promptTokens, contextTokens, completionTokens, prefilledTokens, cachedTokens, preemptible },
    tokens,
    ids,
    text,
    ...(deltas ? { deltas } : {}),
    ...(finish ? { finish } : {}),
    ...(error ? { error: callError(error) } : {}),
  };
}

/** What a call's forced ids were, when it was more than text. */
export function forcedDeltasOf({ forcedDeltas }: EngineCall): readonly AnswerDelta[] | undefined {
  const isText = ({ delta, logprobs }: AnswerDelta) =>
    logprobs === undefined && Object.keys(delta).every((name) => name === "content");
  return forcedDeltas?.every(isText) ? undefined : forcedDeltas;
}

/** Nowhere for a call that the engine does not hold any more. */
export function placeOf(call: EngineCall | undefined): ContextPlace {
  return { contextTokens: call?.contextTokens ?? 0, hostTokens: call?.hostTokens ?? 0 };
}

/** As reports have them. */
export function countersOf(counters: EngineCounters): Counters {
  const { steps, stepCalls, busyMs, tokens, batchMax, prefilledTokens, cachedTokens } = counters;
  const { swapOuts, swapIns, swapBytes, swapMs } = counters;
  return {
    ...{ steps, stepCalls, busyMs, tokens, batchMax, prefilledTokens, cachedTokens },
    ...{ swapOuts, swapIns, swapBytes, swapMs },
  };
}

/** A body from the queue, or from the object store where it was too large for the queue. */
export async function fetchBody(
  bus: Bus,
  address: CallAddress,
  seq: number,
  bodyObject: string | undefined,
): Promise<FetchedBody> {
  const fetched = await fetchCall(bus, address, seq);
  if (fetched.kind !== "found") return { kind: fetched.kind };
  const { bytes, encoding } = fetched.call;
  const name = bodyObject ?? fetched.call.bodyObject;
  if (name === undefined) return { kind: "found", bytes, encoding };
  try {
    return { kind: "found", bytes: await getBody(bus, name), encoding };
  } catch (error) {
    if (error instanceof AutellixError && (error.code === "result_expired" || error.code === "body_too_large")) {
      return { kind: "failed", code: error.code, message: error.message };
    }
    return { kind: "unknown" };
  }
}
