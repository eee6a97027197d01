/**
 * The closed loop: so many callers, each of which sends its next call when the last one ended. It finds what a server
 * can do at most; latencies under it say little, since a slow server is offered less.
 */
import { type CallAnswer, type CallBody, openEndpoint } from "./http.ts";
import { firstModel } from "./run.ts";

export interface ClosedLoopOptions {
  url: string;
  callers: number;
  durationMs: number;
  body: Omit<CallBody, "model">;
  /** Calls that are not counted, at the start. */
  warmUpMs?: number;
  signal?: AbortSignal | undefined;
}

export interface ClosedLoopResult {
  callers: number;
  /** Completed after the warm-up. */
  completed: number;
  failed: number;
  perSecond: number;
  /** Of completed calls, ms. */
  callMs: number[];
  errors: Record<string, number>;
}

const CALL_MS_MAX = 120_000;
/** After a refusal a caller waits; a loop that does not would only count refusals. */
const REFUSED_PAUSE_MS = 100;

export async function runClosedLoop(options: ClosedLoopOptions): Promise<ClosedLoopResult> {
  const { url, callers, durationMs, warmUpMs = 0 } = options;
  const endpoint = openEndpoint(url);
  try {
    const body: CallBody = { ...options.body, model: await firstModel(endpoint, url) };
    const startMs = performance.now() + warmUpMs;
    const endMs = startMs + durationMs;
    const answers: CallAnswer[] = [];
    const caller = async () => {
      while (performance.now() < endMs && !options.signal?.aborted) {
        const answer = await endpoint.send(body, {}, CALL_MS_MAX);
        const now = performance.now();
        if (now >= startMs && now < endMs) answers.push(answer);
        if (!isCompleted(answer)) await new Promise((resolve) => setTimeout(resolve, REFUSED_PAUSE_MS));
      }
    };
    await Promise.all(Array.from({ length: callers }, caller));
    return count(callers, durationMs, answers);
  } finally {
    endpoint.close();
  }
}

function count(callers: number, durationMs: number, answers: readonly CallAnswer[]): ClosedLoopResult {
  const completed = answers.filter(isCompleted);
  const errors: Record<string, number> = {};
  for (const answer of answers) {
    if (isCompleted(answer)) continue;
    const error = answer.error ?? "incomplete";
    errors[error] = (errors[error] ?? 0) + 1;
  }
  return {
    callers,
    completed: completed.length,
    failed: answers.length - completed.length,
    perSecond: (1_000 * completed.length) / durationMs,
    callMs: completed.map((answer) => answer.totalMs),
    errors,
  };
}

function isCompleted(answer: CallAnswer): boolean {
  return answer.complete && answer.error === undefined;
}
