/** The command line of `npm run bench:gpu`. */
import { type LiveOptions, parseLiveOptions } from "../live/options.ts";
import { parseFlags, whole } from "../options.ts";

const DEFAULT = { batch: 16, contextTokens: 8_192, repeats: 7, seconds: 60 };

export const HELP = `npm run bench:gpu -- [options]: llama.cpp with CUDA under the agent

  --model-file FILE   a GGUF file (default: the model of npm start, fetched when it is missing), or tiny
  --cpu               on the CPU: the same measurements, to see that they work
  --batch N           calls generated together, at most (default ${DEFAULT.batch})
  --context-tokens N  prompt and answer of one call (default ${DEFAULT.contextTokens})
  --repeats N         steps and transfers of a point (default ${DEFAULT.repeats})
  --seconds N         in which the live runs' programs arrive (default ${DEFAULT.seconds})
  --policies A,B, --finite-load F, --steady-load F, --tiers both|host|none, --minutes N, --seed N
                      of the live runs, as for npm run bench:live
  --out FOLDER        (default load-tests/results)

Exit code: 0, also without a GPU; 2 when node-llama-cpp has no binary for the GPU, or the command line cannot be read.
`;

export interface GpuBenchOptions {
  live: LiveOptions;
  contextTokensMax: number;
  repeats: number;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseGpuBenchOptions(args: readonly string[]): GpuBenchOptions | undefined {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const { help, cpu, repeats, ...values } = parseFlags(args, {
    "model-file": text,
    cpu: flag,
    batch: text,
    "context-tokens": text,
    repeats: text,
    seconds: text,
    policies: text,
    "finite-load": text,
    "steady-load": text,
    tiers: text,
    minutes: text,
    seed: text,
    out: text,
    help: { ...flag, short: "h" },
  });
  if (help) return undefined;
  const { "context-tokens": contextTokens, ...shared } = values;
  const given = { batch: String(DEFAULT.batch), seconds: String(DEFAULT.seconds), ...shared };
  const live = parseLiveOptions([
    ...Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value])),
    ...["--gpu", cpu ? "false" : "auto"],
  ]);
  if (live === undefined) return undefined;
  return {
    live,
    contextTokensMax: whole("context-tokens", contextTokens, DEFAULT.contextTokens, 128, 1_000_000),
    repeats: whole("repeats", repeats, DEFAULT.repeats, 1, 1_000),
  };
}
