/**
 * Configuration comes as environment variables, is parsed once by a schema, and a bad value stops the start with one
 * line that names the variable. Only `main.ts` files read the environment; everything here gets it as a value.
 */
import { z } from "zod";
import { LOG_LEVELS } from "./logger.ts";

export type Env = Readonly<Record<string, string | undefined>>;

/** Exit code of a process whose configuration cannot be used. */
export const CONFIG_EXIT_CODE = 2;

/** The configuration cannot be used; `message` is one readable line. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

interface Range {
  min: number;
  max: number;
}

/** A whole number inside `min`…`max`. Append `.default(n)` or `.optional()` unless it must be set. */
export function envInt({ min, max }: Range) {
  return numberField(/^-?\d{1,15}$/, { min, max }, `must be a whole number from ${min} to ${max}`);
}

/** A decimal number inside `min`…`max`, such as a share or a factor. */
export function envNumber({ min, max }: Range) {
  return numberField(/^-?\d{1,15}(\.\d{1,15})?$/, { min, max }, `must be a number from ${min} to ${max}`);
}

function numberField(pattern: RegExp, { min, max }: Range, message: string) {
  return z
    .string(message)
    .regex(pattern, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

/** `true` or `1`, `false` or `0`. */
export function envFlag() {
  return z
    .enum(["true", "1", "false", "0"], "must be true or false")
    .transform((text) => text === "true" || text === "1");
}

/** Comma-separated words, at least one; spaces around them do not count. */
export function envList() {
  return z
    .string("must be a comma-separated list")
    .transform((text) =>
      text
        .split(",")
        .map((word) => word.trim())
        .filter((word) => word !== ""),
    )
    .refine((words) => words.length > 0, "must be a comma-separated list");
}

/** Any text that is not empty. */
export function envText() {
  return z.string("must be set");
}

/** One of the given words. */
export function envChoice<const T extends readonly [string, ...string[]]>(words: T) {
  return z.enum(words, `must be one of ${words.join(", ")}`);
}

/** What every service reads. Spread it: `z.object({ ...commonConfig, AUTELLIX_POOL: … })`. */
export const commonConfig = {
  /** NATS servers, comma-separated. The default is where `npm start` puts its own. */
  AUTELLIX_NATS_URL: envText().default("nats://127.0.0.1:4222"),
  /** Lines below this level are not written. */
  AUTELLIX_LOG_LEVEL: envChoice(LOG_LEVELS).default("info"),
  /** Log lines for people instead of JSON. */
  AUTELLIX_PRETTY: envFlag().default(false),
  /** Label that tells processes of one service apart in logs. */
  AUTELLIX_INSTANCE: envText().optional(),
  /** Port of `/metrics`, `/healthz` and `/readyz`; 0: any. Not set: none of them, and nothing is counted. */
  AUTELLIX_METRICS_PORT: envInt({ min: 0, max: 65_535 }).optional(),
  /** Address that it listens on. Nobody is asked for a key there. */
  AUTELLIX_METRICS_HOST: envText().default("127.0.0.1"),
};

/**
 * @returns what `schema` makes of `env`. An empty variable counts as not set, as a shell's `NAME=` means it.
 * @throws ConfigError with one line that names the first variable at fault.
 */
export function parseConfig<C>(schema: z.ZodType<C>, env: Env): C {
  const set = Object.fromEntries(Object.entries(env).filter(([, text]) => text !== undefined && text !== ""));
  const parsed = schema.safeParse(set);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const name = String(issue?.path[0] ?? "configuration");
  const text = set[name];
  throw new ConfigError(
    `${name} ${issue?.message ?? "is invalid"} ${text === undefined ? "(it is not set)" : `(it is "${text}")`}`,
  );
}
