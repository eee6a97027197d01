/**
 * How an outside part is obtained: steps in order, each with a time limit; the first that succeeds wins. When none
 * does, the error lists what was tried, why it failed, and what the person can do.
 */
import type { Env } from "../config.ts";

export interface PartProgress {
  /** What is being obtained: `nats-server`, `model SmolLM2-135M-Instruct`. */
  part: string;
  /** Where from. */
  step: string;
  doneBytes: number;
  /** Left out when unknown. */
  totalBytes?: number;
}

export interface ObtainOptions {
  /** Names of places and overrides; `main.ts` passes `process.env`. */
  env: Env;
  /** Ends the work; children and temporary files are gone when the promise rejects. */
  signal?: AbortSignal;
  /** A step that takes time says so: at its start, and while bytes arrive. */
  onProgress?: (progress: PartProgress) => void;
  /** One line that the person should see although all goes on ("the nats-server on PATH is too old"). */
  onNotice?: (text: string) => void;
}

export interface Step<T> {
  name: string;
  timeoutMs: number;
  /** Quick looks (a file, PATH) are not worth a progress line. */
  quiet?: boolean;
  /** @throws an error whose message is the reason in one line; a PartError ends the whole search. */
  run(signal: AbortSignal, progress: (doneBytes: number, totalBytes?: number) => void): Promise<T>;
}

/** A part could not be obtained; `message` is for a person and says what to do. */
export class PartError extends Error {
  override readonly name = "PartError";
}

/**
 * @param advice what the person can do when all has failed, one line.
 * @throws PartError when no step succeeded; the signal's reason when `options.signal` aborts.
 */
export async function tryInOrder<T>(
  part: string,
  steps: readonly Step<T>[],
  advice: string,
  options: ObtainOptions,
): Promise<T> {
  const tried: string[] = [];
  for (const { name, timeoutMs, quiet, run } of steps) {
    const limit = new AbortController();
    const timer = setTimeout(
      () => limit.abort(new Error(`gave up after ${Math.round(timeoutMs / 1000)} s`)),
      timeoutMs,
    );
    const signal = options.signal === undefined ? limit.signal : AbortSignal.any([options.signal, limit.signal]);
    const progress = (doneBytes: number, totalBytes?: number) =>
      options.onProgress?.({ part, step: name, doneBytes, ...(totalBytes === undefined ? {} : { totalBytes }) });
    try {
      signal.throwIfAborted();
      if (!quiet) progress(0);
      return await run(signal, progress);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof PartError) throw error;
      tried.push(`  - ${name}: ${reasonOf(error)}`);
    } finally {
      clearTimeout(timer);
    }
  }
  throw new PartError(`${part} could not be obtained. Tried:\n${tried.join("\n")}\n${advice}`);
}

/** @returns the innermost cause in one line: `fetch failed` alone tells a person nothing. */
export function reasonOf(error: unknown): string {
  let inner = error;
  while (inner instanceof Error && inner.cause instanceof Error) inner = inner.cause;
  // Trying several addresses of one host ends in an AggregateError with an empty message.
  if (inner instanceof AggregateError && inner.message === "") inner = inner.errors[0];
  const text = inner instanceof Error ? inner.message : String(inner);
  return text.split("\n", 1)[0] || "failed for an unknown reason";
}
