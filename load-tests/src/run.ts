/**
 * The open loop: each program starts at its arrival, whatever became of the ones before. A loop that waits for answers
 * would offer less the slower the server is, and hide exactly what is to be measured.
 */
import { type CallAnswer, type CallBody, type Endpoint, type Message, openEndpoint } from "./http.ts";
import { makePrompt } from "./text.ts";
import type { CallSpec, ProgramSpec } from "./workload.ts";

export interface Target {
  /** Shown in reports. */
  name: string;
  /** `http://127.0.0.1:8080/v1` */
  url: string;
  apiKey?: string | undefined;
  /** Default: the first that the endpoint lists. */
  model?: string | undefined;
}

export interface RunOptions {
  stream?: boolean;
  callMsMax?: number;
  /** Programs under way; above it arrivals are skipped and counted, which makes the run invalid as an open loop. */
  programsInFlightMax?: number;
  /** A conversation that would exceed it starts afresh. Estimated from characters. */
  contextTokensMax?: number;
  charsPerToken?: number | undefined;
  /** Default: the endpoint's. */
  temperature?: number | undefined;
  /** Time after the last arrival in which what is under way may finish. */
  drainMsMax?: number;
  /** Makes prompts and program ids differ from run to run. */
  seed?: number;
  /** Of programs, for people who watch a stack of its own; the default names are new in each run. */
  programNames?: readonly string[];
  /** Opens and ends programs at the endpoint; false for endpoints that know none. */
  endPrograms?: boolean;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal | undefined;
}

export interface Progress {
  elapsedMs: number;
  arrived: number;
  programs: number;
  underWay: number;
  finished: number;
  failed: number;
  callsEnded: number;
}

export interface CallResult extends Omit<CallAnswer, "text"> {
  index: number;
  thread: string;
  /** Ms after the run's start. */
  sentMs: number;
}

/**
 * - `finished`: every call completed.
 * - `refused`: a call was answered 429.
 * - `failed`: a call ended in another error.
 * - `unfinished`: still under way when the drain ended.
 * - `skipped`: never started.
 */
export type ProgramStatus = "finished" | "refused" | "failed" | "unfinished" | "skipped";

export interface ProgramResult {
  id: string;
  kind: string;
  status: ProgramStatus;
  arrivalMs: number;
  /** How late the generator was: more than a few ms means that it cannot offer this load. */
  lateMs: number;
  /** From arrival to the end of its last call, tools included. */
  totalMs: number;
  /** Tools' time, summed over all calls. */
  gapsMs: number;
  calls: CallResult[];
  /** Why its end could not be told to the endpoint. */
  endError?: string;
}

export interface RunResult {
  target: string;
  startedAt: string;
  elapsedMs: number;
  programs: ProgramResult[];
}

const CALL_MS_MAX = 600_000;
const PROGRAMS_IN_FLIGHT_MAX = 5_000;
const CONTEXT_TOKENS_MAX = 2_000;
const CHARS_PER_TOKEN = 4.5;
const DRAIN_MS_MAX = 600_000;
const PROGRESS_MS = 1_000;

/** @throws when the target cannot be reached at the start; everything after that is in the result. */
export async function runOpenLoop(
  target: Target,
  programs: readonly ProgramSpec[],
  options: RunOptions = {},
): Promise<RunResult> {
  const endpoint = openEndpoint(target.url, target.apiKey);
  try {
    const model = target.model ?? (await firstModel(endpoint, target.url));
    const run = new Run(endpoint, model, programs, options);
    return { target: target.name, ...(await run.all()) };
  } finally {
    endpoint.close();
  }
}

/** @throws Error when the endpoint lists no model. */
export async function firstModel(endpoint: Endpoint, url: string): Promise<string> {
  const { value } = await endpoint.ask("GET", "/models").catch((cause: unknown) => {
    throw new Error(`${url} cannot be reached`, { cause });
  });
  const model = (value as { data?: { id?: string }[] } | undefined)?.data?.[0]?.id;
  if (model === undefined) throw new Error(`${url}/models lists no model; name one with --model`);
  return model;
}

class Run {
  readonly #endpoint: Endpoint;
  readonly #model: string;
  readonly #programs: readonly ProgramSpec[];
  readonly #options: RunOptions;
  readonly #results: ProgramResult[] = [];
  readonly #underWay = new Map<ProgramResult, Promise<void>>();
  readonly #stop = new AbortController();
  /** The caller's stop or the run's own end. */
  readonly #stopped: AbortSignal;
  #startedMs = 0;
  #callsEnded = 0;

  constructor(endpoint: Endpoint, model: string, programs: readonly ProgramSpec[], options: RunOptions) {
    this.#endpoint = endpoint;
    this.#model = model;
    this.#programs = programs;
    this.#options = options;
    this.#stopped = options.signal ? AbortSignal.any([options.signal, this.#stop.signal]) : this.#stop.signal;
  }

  async all(): Promise<Omit<RunResult, "target">> {
    const startedAt = new Date().toISOString();
    this.#startedMs = performance.now();
    const progress = setInterval(() => this.#options.onProgress?.(this.#progress()), PROGRESS_MS);
    try {
      for (const [index, spec] of this.#programs.entries()) {
        if (!(await this.#sleepUntil(spec.arrivalMs))) break;
        this.#launch(spec, index);
      }
      await this.#drain();
    } finally {
      clearInterval(progress);
      this.#stop.abort();
    }
    this.#options.onProgress?.(this.#progress());
    return { startedAt, elapsedMs: this.#nowMs(), programs: this.#results };
  }

  #launch(spec: ProgramSpec, index: number): void {
    const lateMs = Math.max(0, this.#nowMs() - spec.arrivalMs);
    const unique = `load-${this.#options.seed ?? 0}-${index}-${Math.round(performance.timeOrigin + this.#startedMs)}`;
    const id = this.#options.programNames?.[index] ?? unique;
    const { kind, arrivalMs } = spec;
    const gapsMs = spec.calls.reduce((sum, call) => sum + call.gapMs, 0);
    const result: ProgramResult = { id, kind, status: "skipped", arrivalMs, lateMs, totalMs: 0, gapsMs, calls: [] };
    this.#results.push(result);
    if (this.#underWay.size >= (this.#options.programsInFlightMax ?? PROGRAMS_IN_FLIGHT_MAX)) return;
    result.status = "unfinished";
    const running = this.#program(spec, result, index).finally(() => this.#underWay.delete(result));
    this.#underWay.set(result, running);
  }

  async #program(spec: ProgramSpec, result: ProgramResult, index: number): Promise<void> {
    const conversations: Message[][] = [];
    const ended: Promise<boolean>[] = [];
    for (const [at, call] of spec.calls.entries()) {
      ended.push(
        (async () => {
          const parents = await Promise.all(call.parents.map((parent) => ended[parent]));
          if (!parents.every(Boolean)) return false;
          if (call.gapMs > 0) await sleep(call.gapMs, this.#stopped);
          if (this.#stopped.aborted) return false;
          return await this.#call(call, at, result, conversations, index);
        })(),
      );
    }
    const all = await Promise.all(ended);
    if (this.#stopped.aborted) return;
    result.totalMs = this.#nowMs() - result.arrivalMs;
    if (all.every(Boolean)) result.status = "finished";
    else result.status = result.calls.some((call) => call.httpStatus === 429) ? "refused" : "failed";
    if (!this.#options.endPrograms) return;
    try {
      await this.#endpoint.ask("DELETE", `/programs/${result.id}`);
    } catch (error) {
      result.endError = error instanceof Error ? error.message : String(error);
    }
  }

  /** @returns whether it completed. */
  async #call(
    spec: CallSpec,
    index: number,
    result: ProgramResult,
    conversations: Message[][],
    programIndex: number,
  ): Promise<boolean> {
    const charsPerToken = this.#options.charsPerToken ?? CHARS_PER_TOKEN;
    const seed = (this.#options.seed ?? 0) * 1_000_003 + programIndex * 1_009 + index;
    const content = spec.prompt ?? makePrompt(spec.promptTokens, seed, charsPerToken);
    const before = conversations[spec.parents[0] ?? -1] ?? [];
    const chars = before.reduce((sum, message) => sum + message.content.length, content.length);
    const fits =
      chars / charsPerToken + spec.completionTokens <= (this.#options.contextTokensMax ?? CONTEXT_TOKENS_MAX);
    const messages: Message[] = [...(fits ? before : []), { role: "user", content }];

    const stream = this.#options.stream ?? true;
    const body: CallBody = { model: this.#model, messages, max_tokens: spec.completionTokens, stream };
    if (stream) body.stream_options = { include_usage: true };
    if (this.#options.temperature !== undefined) body.temperature = this.#options.temperature;
    const fields: Record<string, string> = { "autellix-program-id": result.id, "autellix-thread-id": spec.thread };
    const parentIds = spec.parents.flatMap((parent) => result.calls.find((c) => c.index === parent)?.callId ?? []);
    if (parentIds.length > 0) fields["autellix-parent-call-ids"] = parentIds.join(",");

    const sentMs = this.#nowMs();
    const { text, ...answer } = await this.#endpoint.send(body, fields, this.#options.callMsMax ?? CALL_MS_MAX);
    this.#callsEnded++;
    if (this.#stopped.aborted) return false;
    result.calls.push({ index, thread: spec.thread, sentMs, ...answer });
    conversations[index] = [...messages, { role: "assistant", content: text }];
    return answer.complete && answer.error === undefined;
  }

  async #drain(): Promise<void> {
    const limit = sleep(this.#options.drainMsMax ?? DRAIN_MS_MAX, this.#stopped);
    await Promise.race([Promise.all(this.#underWay.values()), limit]);
  }

  /** @returns false when the run was stopped meanwhile. */
  async #sleepUntil(atMs: number): Promise<boolean> {
    const restMs = atMs - this.#nowMs();
    if (restMs > 0) await sleep(restMs, this.#stopped);
    return !this.#stopped.aborted;
  }

  #nowMs(): number {
    return performance.now() - this.#startedMs;
  }

  #progress(): Progress {
    const count = (status: ProgramStatus) => this.#results.filter((result) => result.status === status).length;
    return {
      elapsedMs: this.#nowMs(),
      arrived: this.#results.length,
      programs: this.#programs.length,
      underWay: this.#underWay.size,
      finished: count("finished"),
      failed: count("failed") + count("refused") + count("skipped"),
      callsEnded: this.#callsEnded,
    };
  }
}

/** Ends early, without an error, when `signal` aborts. */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}
