/** The command line of `npm run calibrate`. */
import { ENGINE_FLAGS, ENGINE_HELP, type EngineOptions, engineOptionsOf } from "../engine-bench/open-engine.ts";
import { parseFlags, UsageError, whole } from "../options.ts";

const REPEATS = 7;
const REPEATS_MAX = 1_000;
const CONTEXT_TOKENS_MAX = 1_000_000;

export const HELP = `npm run calibrate -- --engine llama --model-file FILE | --engine http --url URL [options]:
measures an engine and writes its preset for npm run simulate, replay, bench:paper, and the simulated engine

${ENGINE_HELP}
  --contexts-max N     longest context that is measured (default: what the engine holds)
  --repeats N          steps and transfers of a point; its time is their median (default ${REPEATS})
  --name NAME          of the preset (default: the model's)
  --out FILE           (default preset-<name>.json)

The machine should do nothing else meanwhile. Exit code: 0, or 2 when the command line cannot be read.
`;

export interface CalibrateOptions {
  engine: EngineOptions;
  contextsMax: number | undefined;
  repeats: number;
  name: string | undefined;
  out: string | undefined;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseCalibrateOptions(args: readonly string[]): CalibrateOptions | undefined {
  const text = { type: "string" } as const;
  const values = parseFlags(args, {
    ...ENGINE_FLAGS,
    "contexts-max": text,
    repeats: text,
    name: text,
    out: text,
    help: { type: "boolean", short: "h" },
  });
  if (values.help) return undefined;
  if (values.out === "") throw new UsageError("--out needs a file");
  const contexts = values["contexts-max"];
  return {
    engine: engineOptionsOf(values),
    contextsMax: contexts === undefined ? undefined : whole("contexts-max", contexts, 0, 64, CONTEXT_TOKENS_MAX),
    repeats: whole("repeats", values.repeats, REPEATS, 1, REPEATS_MAX),
    name: values.name,
    out: values.out,
  };
}
