/**
 * Configuration of a frontend. `main.ts` gives it the environment.
 */
import { commonConfig, envChoice, envInt, envText, type SpansSetup, spansConfig, spansSetup } from "@autellix/runtime";
import { z } from "zod";
import { type LimitName, type Limits, limitNames, limitTable } from "./limits.ts";

export interface Config {
  natsUrl: string;
  host: string;
  port: number;
  apiKeysFile: string | undefined;
  /** Where calls are recorded (call-trace.ts), and how they are named there; not recorded without it. */
  trace?: { file: string; names: "opaque" | "plain" } | undefined;
  /** Where spans go; nothing is traced without it. */
  spans?: SpansSetup | undefined;
  /** Tells frontends apart in traces. */
  instance?: string;
  limits: Limits;
}

/** `openCallsMax` → `AUTELLIX_OPEN_CALLS_MAX` */
export function envNameOf(limit: LimitName): string {
  return `AUTELLIX_${limit.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

function limitField(name: LimitName) {
  const { min, max, default: value } = limitTable[name];
  return envInt({ min, max }).default(value);
}

const limitShape = Object.fromEntries(limitNames.map((name) => [envNameOf(name), limitField(name)] as const));

export const configSchema: z.ZodType<Config> = z
  .object({
    ...limitShape,
    ...commonConfig,
    ...spansConfig,
    /** Address to listen on. Without a key file it must be this machine's own. */
    AUTELLIX_HOST: envText().default("127.0.0.1"),
    AUTELLIX_PORT: envInt({ min: 0, max: 65_535 }).default(8_080),
    /** `anywhere`: without a key file it may listen on any address, because something else guards it, such as a proxy. */
    AUTELLIX_WITHOUT_KEYS: envChoice(["loopback", "anywhere"]).default("loopback"),
    /** Keys and their tenants; without it any key means the default tenant. */
    AUTELLIX_API_KEYS_FILE: envText().optional(),
    /** Records sizes and times of calls, never their text, for `npm run simulate`. */
    AUTELLIX_TRACE_FILE: envText().optional(),
    /** `plain`: programs, threads and calls by the names that clients gave them. */
    AUTELLIX_TRACE_NAMES: envChoice(["opaque", "plain"]).default("opaque"),
  })
  .refine(
    ({ AUTELLIX_HOST, AUTELLIX_API_KEYS_FILE, AUTELLIX_WITHOUT_KEYS }) =>
      AUTELLIX_API_KEYS_FILE !== undefined || AUTELLIX_WITHOUT_KEYS === "anywhere" || isLoopback(AUTELLIX_HOST),
    {
      path: ["AUTELLIX_HOST"],
      message:
        "must be a loopback address as long as AUTELLIX_API_KEYS_FILE is not set: anybody could use the models (AUTELLIX_WITHOUT_KEYS=anywhere when something else guards it)",
    },
  )
  .transform((env) => {
    const values = env as Record<string, unknown>;
    return {
      natsUrl: env.AUTELLIX_NATS_URL,
      host: env.AUTELLIX_HOST,
      port: env.AUTELLIX_PORT,
      apiKeysFile: env.AUTELLIX_API_KEYS_FILE,
      trace:
        env.AUTELLIX_TRACE_FILE === undefined
          ? undefined
          : { file: env.AUTELLIX_TRACE_FILE, names: env.AUTELLIX_TRACE_NAMES },
      spans: spansSetup(env),
      instance: env.AUTELLIX_INSTANCE ?? `${env.AUTELLIX_HOST}:${env.AUTELLIX_PORT}`,
      limits: Object.fromEntries(limitNames.map((name) => [name, values[envNameOf(name)]])) as Limits,
    };
  });

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
