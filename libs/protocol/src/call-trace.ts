/**
 * The call trace: what a frontend's clients asked for, as JSON lines, so that real traffic can be played again in the
 * laboratory. The first line of a frontend's file says when the recording began; each further one is a call that has
 * ended: sizes, times and names, never text (S12). Files may be joined in any order: a header counts for what follows.
 *
 * A module of its own, which loads no NATS: the laboratory reads traces, too.
 */
import { createHash } from "node:crypto";
import { z } from "zod";

/** Of the format. A reader refuses higher ones. */
export const CALL_TRACE_VERSION = 1;
/** Calls that a reader takes: all of them are held in memory. */
export const TRACE_CALLS_MAX = 5_000_000;
/** 64 bits of SHA-256: two names of one trace that differ and agree in it are not to be expected. */
const NAME_CHARS = 16;

const count = z.int().nonnegative();
/** Above it, ms are no whole numbers any more. */
const ms = z.number().nonnegative().max(Number.MAX_SAFE_INTEGER);
const name = z.string().min(1);

export const traceHeaderSchema = z.object({
  trace: z.literal("autellix-calls"),
  version: z.int().positive(),
  /** Time of day, ms since 1970. */
  startedAtMs: ms,
});

/** One call that has ended. Unknown fields are refused: a trace holds no more than it says here. */
export const tracedCallSchema = z
  .strictObject({
    /** Unique in the trace; opaque unless the frontend was told to keep names, as `program`, `thread` and `parents`. */
    call: name,
    program: name,
    thread: name.optional(),
    /** As the client said, when it did. */
    parents: z.array(name).optional(),
    model: name,
    status: z.enum(["completed", "failed", "cancelled", "expired", "dead"]),
    /** Since the header's start. */
    arrivedAtMs: ms,
    endedAtMs: ms,
    /** As the engine's agent measured them; absent when no engine had the call. */
    waitingMs: ms.optional(),
    serviceMs: ms.optional(),
    /** As the engine counted, else an estimate from the size. */
    promptTokens: count,
    /** Of the prompt, those that the engine did not compute, where it says so. */
    cachedTokens: count.optional(),
    /** What was generated, of a call that did not complete too. */
    completionTokens: count,
  })
  .refine(({ arrivedAtMs, endedAtMs }) => arrivedAtMs <= endedAtMs, {
    path: ["endedAtMs"],
    message: "must not be before arrivedAtMs",
  });

export type TraceHeader = z.infer<typeof traceHeaderSchema>;
export type TracedCall = z.infer<typeof tracedCallSchema>;

/** Programs, threads and calls by names that say nothing: the same for the same tenant and id in every frontend. */
export function opaqueName(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, NAME_CHARS);
}

export type TraceErrorCode =
  | "not_a_trace"
  | "trace_version_unknown"
  | "trace_line_invalid"
  | "trace_call_repeated"
  | "trace_too_long";

/** The file cannot be read as a trace; `message` is one line for a person, `code` is stable. */
export class TraceError extends Error {
  override readonly name = "TraceError";
  readonly code: TraceErrorCode;
  /** From 1, over all files that were read as one. */
  readonly line: number;
  /** The message without its line. */
  readonly reason: string;

  constructor(code: TraceErrorCode, line: number, reason: string) {
    super(`line ${line}: ${reason}`);
    this.code = code;
    this.line = line;
    this.reason = reason;
  }
}

export interface CallTrace {
  /** In the order of arrival; times are ms since the earliest header's start. */
  calls: TracedCall[];
  /** The last line of a file is not whole: the frontend was killed while it wrote, or is still writing. */
  torn: boolean;
}

/** @throws TraceError at the first line that is none; only the last one of a file may be torn. */
export async function readCallTrace(lines: Iterable<string> | AsyncIterable<string>): Promise<CallTrace> {
  const reader = new Reader();
  for await (const line of lines) reader.take(line);
  return reader.end();
}

class Reader {
  readonly #calls: { startedAtMs: number; call: TracedCall }[] = [];
  readonly #names = new Set<string>();
  #startedAtMs: number | undefined;
  #line = 0;
  /** A line that is no JSON, which is torn if it was a file's last one. */
  #tornLine: number | undefined;
  #torn = false;

  take(text: string): void {
    this.#line++;
    if (text.trim() === "") return;
    const value = parseJson(text);
    const isHeader = typeof value === "object" && value !== null && "trace" in value;
    if (this.#tornLine !== undefined && !isHeader)
      throw new TraceError("trace_line_invalid", this.#tornLine, "this is no JSON");
    this.#tornLine = undefined;
    if (value === undefined && this.#startedAtMs !== undefined) {
      this.#tornLine = this.#line;
      this.#torn = true;
    } else if (isHeader || this.#startedAtMs === undefined) this.#startedAtMs = this.#header(value);
    else this.#call(value, this.#startedAtMs);
  }

  end(): CallTrace {
    if (this.#startedAtMs === undefined) throw new TraceError("not_a_trace", 1, "the file is empty");
    let first = Number.POSITIVE_INFINITY;
    for (const { startedAtMs } of this.#calls) first = Math.min(first, startedAtMs);
    const calls = this.#calls.map(({ startedAtMs, call }) => {
      const shift = startedAtMs - first;
      return { ...call, arrivedAtMs: call.arrivedAtMs + shift, endedAtMs: call.endedAtMs + shift };
    });
    calls.sort((a, b) => a.arrivedAtMs - b.arrivedAtMs || a.endedAtMs - b.endedAtMs || (a.call < b.call ? -1 : 1));
    return { calls, torn: this.#torn };
  }

  #header(value: unknown): number {
    const parsed = traceHeaderSchema.safeParse(value);
    if (!parsed.success) throw new TraceError("not_a_trace", this.#line, "this is no header of a trace");
    const { version, startedAtMs } = parsed.data;
    if (version > CALL_TRACE_VERSION) {
      const text = `format ${version} is newer than ${CALL_TRACE_VERSION}`;
      throw new TraceError("trace_version_unknown", this.#line, text);
    }
    return startedAtMs;
  }

  #call(value: unknown, startedAtMs: number): void {
    const parsed = tracedCallSchema.safeParse(value);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      const at = issue?.path.length ? `${issue.path.join(".")}: ` : "";
      throw new TraceError("trace_line_invalid", this.#line, `${at}${issue?.message ?? "this is no call"}`);
    }
    const { call } = parsed.data;
    if (this.#names.has(call))
      throw new TraceError("trace_call_repeated", this.#line, `call ${call} is there already: a file came twice?`);
    if (this.#names.size >= TRACE_CALLS_MAX)
      throw new TraceError("trace_too_long", this.#line, `a trace has at most ${TRACE_CALLS_MAX} calls`);
    this.#names.add(call);
    this.#calls.push({ startedAtMs, call: parsed.data });
  }
}

/** @returns undefined when it is none. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** One line of a trace, with its end. */
export function formatTraceLine(value: TraceHeader | TracedCall): string {
  return `${JSON.stringify(value)}\n`;
}
