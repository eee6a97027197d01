/** The command line of `npm run bench:engine`. */
import { number, parseFlags, UsageError, whole } from "../options.ts";

const BATCH_MAX = 256;
const TOKENS_MAX = 8_192;
const DEFAULT = {
  batches: "1,4",
  systems: 3,
  pairs: 4,
  promptTokens: 40,
  tokens: 128,
  seed: 1,
  contextTokens: 2_000,
  repeats: 3,
};
const RATIO_WANTED = 0.95;

export const HELP = `npm run bench:engine -- [options]: what the agent around an engine costs, and what kept contexts are worth

  --model-file FILE    a GGUF file (default: the model of npm start, fetched when it is missing)
  --gpu auto|false     (default false)
  --batches N,N        calls generated together (default ${DEFAULT.batches})
  --systems N          fresh processes of each arm, one after the other (default ${DEFAULT.systems})
  --pairs N            measurements of each arm with each of them, taking turns (default ${DEFAULT.pairs})
  --prompt-tokens N, --tokens N   of each call (default ${DEFAULT.promptTokens}, ${DEFAULT.tokens})
  --context-tokens N   history that is swapped, computed again, and gone on from (default ${DEFAULT.contextTokens}); 0: none
  --repeats N          of that (default ${DEFAULT.repeats})
  --url URL            instead: an OpenAI server that runs, straight against through the agent's HTTP engine
  --dialect NAME, --slots N   of that server, where it does not say them
  --seed N             (default ${DEFAULT.seed})
  --ratio F            least share of the direct throughput (default ${RATIO_WANTED}); below it the exit code is 1
  --out FOLDER         (default load-tests/results)
`;

export interface EngineBenchOptions {
  /** Undefined: the default model of `npm start`. */
  modelFile: string | undefined;
  gpu: "auto" | false;
  url: string | undefined;
  /** Of `npm start`, for the server. */
  serverArgs: string[];
  batches: number[];
  systems: number;
  /** Of each system. */
  pairs: number;
  promptTokens: number;
  tokens: number;
  contextTokens: number;
  repeats: number;
  seed: number;
  ratioWanted: number;
  out: string | undefined;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseEngineBenchOptions(args: readonly string[]): EngineBenchOptions | undefined {
  const text = { type: "string" } as const;
  const values = parseFlags(args, {
    "model-file": text,
    gpu: text,
    batches: text,
    systems: text,
    pairs: text,
    "prompt-tokens": text,
    tokens: text,
    "context-tokens": text,
    repeats: text,
    url: text,
    dialect: text,
    slots: text,
    seed: text,
    ratio: text,
    out: text,
    help: { type: "boolean", short: "h" },
  });
  if (values.help) return undefined;
  const { gpu = "false", url } = values;
  if (gpu !== "auto" && gpu !== "false") throw new UsageError(`--gpu must be auto or false, not "${gpu}"`);
  const extra = (["dialect", "slots"] as const).find((name) => values[name] !== undefined);
  if (url === undefined && extra !== undefined) throw new UsageError(`--${extra} is for --url`);
  return {
    modelFile: values["model-file"],
    gpu: gpu === "auto" ? "auto" : false,
    url: url?.replace(/\/+$/, ""),
    serverArgs: (["dialect", "slots"] as const).flatMap((name) => {
      const value = values[name];
      return value === undefined ? [] : [`--${name}`, value];
    }),
    batches: (values.batches ?? DEFAULT.batches).split(",").map((batch) => whole("batches", batch, 1, 1, BATCH_MAX)),
    systems: whole("systems", values.systems, DEFAULT.systems, 1, 100),
    pairs: whole("pairs", values.pairs, DEFAULT.pairs, 1, 1_000),
    promptTokens: whole("prompt-tokens", values["prompt-tokens"], DEFAULT.promptTokens, 16, TOKENS_MAX),
    tokens: whole("tokens", values.tokens, DEFAULT.tokens, 8, TOKENS_MAX),
    contextTokens: whole("context-tokens", values["context-tokens"], DEFAULT.contextTokens, 0, 1_000_000),
    repeats: whole("repeats", values.repeats, DEFAULT.repeats, 1, 1_000),
    seed: whole("seed", values.seed, DEFAULT.seed, 0, 2 ** 31),
    ratioWanted: number("ratio", values.ratio, RATIO_WANTED, 0, 10),
    out: values.out,
  };
}
