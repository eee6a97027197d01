/**
 * The input log: what a scheduler's core was fed in one epoch, as JSON lines, so that the same commands can be made
 * again (S6). The first line says how the core was configured; each further one holds an input and the digests of the
 * commands that it gave; the last one says why the recording ended. It holds sizes, times and names, never text (S12).
 *
 * A module of its own, which loads no NATS: the laboratory reads logs, too.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { LADDER_LEVELS_MAX } from "./limits.ts";

/** Of the format. A reader refuses higher ones. */
export const INPUT_LOG_VERSION = 1;
/** 64 bits of SHA-256: two commands that differ and agree in it are not to be expected. */
const DIGEST_CHARS = 16;
/** JSON has no infinite numbers; inputs hold no object with this field. */
const NUMBER_FIELD = "$number";

const count = z.int().nonnegative();
/** `z.number()` refuses infinite ones; a last level has no end, and β may be off. */
const extended = z.custom<number>((value) => typeof value === "number" && !Number.isNaN(value), "must be a number");
const levelSchema = z.object({ lo: extended, hi: extended, quantum: extended });
const calibrationSchema = z.object({
  first: z.number().positive(),
  levels: z.int().positive().max(LADDER_LEVELS_MAX),
  factor: z.number().positive(),
});

/** What the core was configured with, defaults included; policy and balancer by their names. */
export const inputLogConfigSchema = z.object({
  policy: z.string(),
  balancer: z.string(),
  ladder: z.union([calibrationSchema, z.array(levelSchema).min(1).max(LADDER_LEVELS_MAX)]),
  binding: z.enum(["arrival", "late"]),
  misfit: z.enum(["stop", "skip"]),
  windowSteps: z.int().positive(),
  reserveCallsMax: count,
  beta: extended,
  betaFloorMs: extended,
  /** Recordings from before there was a limit have none. */
  promotedShare: extended.default(Number.POSITIVE_INFINITY),
  attemptsCrashedMax: count,
  programIdleMaxMs: extended,
  cancelMemoryMs: extended,
  cancelMemoryMax: count,
  planResendMs: extended,
});

export const inputLogHeaderSchema = z.object({
  log: z.literal("autellix-inputs"),
  version: z.int().positive(),
  pool: z.string(),
  epoch: count,
  config: inputLogConfigSchema,
});

/** `threw`: the core threw at this input, and the recording process ended with it. */
const entrySchema = z.union([
  z.object({ input: z.looseObject({ kind: z.string(), at: z.number() }), commands: z.array(z.string()) }),
  z.object({ input: z.looseObject({ kind: z.string(), at: z.number() }), threw: z.literal(true) }),
]);
const endSchema = z.object({ end: z.string() });

export type InputLogConfig = z.infer<typeof inputLogConfigSchema>;
export type InputLogHeader = z.infer<typeof inputLogHeaderSchema>;

export type InputLogItem =
  | { kind: "header"; header: InputLogHeader }
  /** `commands` undefined: the core threw. */
  | { kind: "input"; line: number; input: { kind: string; at: number }; commands: readonly string[] | undefined }
  /** Why the recording ended, in words. */
  | { kind: "end"; line: number; reason: string }
  /** The last line is not whole: the process was killed while it was written, or is still writing. */
  | { kind: "torn"; line: number };

export type InputLogErrorCode = "not_an_input_log" | "log_version_unknown" | "log_line_invalid";

/** The file cannot be read as an input log; `message` is one line for a person, `code` is stable. */
export class InputLogError extends Error {
  override readonly name = "InputLogError";
  readonly code: InputLogErrorCode;
  /** From 1. */
  readonly line: number;

  constructor(code: InputLogErrorCode, line: number, text: string) {
    super(`line ${line}: ${text}`);
    this.code = code;
    this.line = line;
  }
}

/** One line of a log, without its end. Equal values give equal text, infinite numbers included. */
export function formatInputLog(value: unknown): string {
  return JSON.stringify(value, (_field, inner: unknown) =>
    typeof inner === "number" && !Number.isFinite(inner) ? { [NUMBER_FIELD]: String(inner) } : inner,
  );
}

/** @throws SyntaxError */
function parseLine(text: string): unknown {
  return JSON.parse(text, (_field, inner: unknown) =>
    typeof inner === "object" && inner !== null && NUMBER_FIELD in inner ? Number(inner[NUMBER_FIELD]) : inner,
  );
}

/** Names a command in a log: its kind, and a digest of all of it. Equal digests mean equal commands, byte for byte. */
export function commandDigest(command: { kind: string }): string {
  const digest = createHash("sha256").update(formatInputLog(command)).digest("hex");
  return `${command.kind} ${digest.slice(0, DIGEST_CHARS)}`;
}

/**
 * @param lines of the file, without their ends.
 * @returns header first, then inputs in their order, then at most one of `end` and `torn`.
 * @throws InputLogError at the first line that is none; only the last one may be torn.
 */
export async function* readInputLog(lines: Iterable<string> | AsyncIterable<string>): AsyncGenerator<InputLogItem> {
  let line = 0;
  /** The last line that is not blank: it can be read once it is known whether it is the last. */
  let held: { text: string; line: number } | undefined;
  for await (const text of lines) {
    line++;
    // Blank lines at the end are what editors and copies leave there.
    if (text === "" && line > 1) continue;
    if (held && held.line < line - 1) throw new InputLogError("log_line_invalid", held.line + 1, "this line is blank");
    if (held) yield readItem(held.text, held.line, false);
    held = { text, line };
  }
  if (!held) throw new InputLogError("not_an_input_log", 1, "the file is empty");
  yield readItem(held.text, held.line, true);
}

function readItem(text: string, line: number, isLast: boolean): InputLogItem {
  let value: unknown;
  try {
    value = parseLine(text);
  } catch {
    if (line === 1) throw new InputLogError("not_an_input_log", 1, "this is no header of an input log");
    if (isLast) return { kind: "torn", line };
    throw new InputLogError("log_line_invalid", line, "this is no JSON");
  }
  if (line === 1) return { kind: "header", header: readHeader(value) };
  const entry = entrySchema.safeParse(value);
  if (entry.success) {
    const { input } = entry.data;
    return { kind: "input", line, input, commands: "commands" in entry.data ? entry.data.commands : undefined };
  }
  const end = endSchema.safeParse(value);
  if (end.success && isLast) return { kind: "end", line, reason: end.data.end };
  throw new InputLogError("log_line_invalid", line, "this is no input with its commands");
}

function readHeader(value: unknown): InputLogHeader {
  const start = z.object({ log: z.literal("autellix-inputs"), version: z.number() }).safeParse(value);
  if (!start.success) throw new InputLogError("not_an_input_log", 1, "this is no header of an input log");
  const { version } = start.data;
  if (version > INPUT_LOG_VERSION)
    throw new InputLogError("log_version_unknown", 1, `format ${version} is newer than ${INPUT_LOG_VERSION}`);
  const header = inputLogHeaderSchema.safeParse(value);
  if (header.success) return header.data;
  const field = header.error.issues[0]?.path.join(".") ?? "";
  throw new InputLogError("log_line_invalid", 1, `the header's field ${field} cannot be read`);
}
