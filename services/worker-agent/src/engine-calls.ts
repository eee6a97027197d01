/** What the engine and the object store say, in the machine's words. */
import type { StepCall } from "@autellix/engines";
import { AutellixError, type Bus, type CallAddress, type ErrorCode, fetchCall, getBody } from "@autellix/protocol";
import type { FetchedBody, SteppedCall } from "./events.ts";

/** Foreign errors are told as one sentence of ours: theirs may quote a prompt (S12). */
export function callError(error: unknown): { code: ErrorCode; message: string } {
  if (error instanceof AutellixError) return { code: error.code, message: error.message };
  return { code: "engine_error", message: "The engine could not serve this call." };
}

export function steppedCall(id: number, stepped: StepCall): SteppedCall {
  const { call, tokens, ids, text, finish, error } = stepped;
  return {
    id,
    contextTokens: call.contextTokens,
    completionTokens: call.completionTokens,
    tokens,
    ids,
    text,
    ...(finish ? { finish } : {}),
    ...(error ? { error: callError(error) } : {}),
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
