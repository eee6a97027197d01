/** The command line of `npm run bench:live`. */
import { isPolicyName, policies } from "@autellix/core";
import { notOne, number, parseFlags, UsageError, whole } from "../options.ts";
import { presetOption } from "../preset-option.ts";

const DEFAULT = { policies: "fcfs,plas", finite: 1.3, steady: 0.9, seconds: 100, batch: 4, seed: 1, minutes: 25 };
const SECONDS_MAX = 3_600;
const MINUTES_MAX = 600;
const LOAD_MAX = 10;

export const HELP = `npm run bench:live -- [options]: policies on a real engine, with contexts in host memory and without;
and what the simulator says to the same programs

  --model-file FILE   a GGUF file (default: the model of npm start, fetched when it is missing), or tiny
  --gpu auto|false    (default false)
  --preset FILE       of npm run calibrate for this engine (default: it is calibrated first)
  --policies A,B      ${Object.keys(policies).join(", ")} (default ${DEFAULT.policies})
  --finite-load F     work over time while programs arrive, which then run to their end (default ${DEFAULT.finite}); 0: not
  --steady-load F     the same, measured after a warm-up (default ${DEFAULT.steady}); 0: not
  --seconds N         in which programs arrive (default ${DEFAULT.seconds}), in each run
  --batch N           calls generated together (default ${DEFAULT.batch})
  --resident N        contexts on the engine (default: a third of the programs that are under way at once)
  --tiers both|host|none   (default both)
  --minutes N         no run is begun after this time (default ${DEFAULT.minutes})
  --seed N            (default ${DEFAULT.seed})
  --out FOLDER        (default load-tests/results)

Ctrl-C ends the run under way; the report says what there is.
`;

export interface LiveOptions {
  /** Undefined: the default model of `npm start`. */
  modelFile: string | undefined;
  gpu: "auto" | false;
  preset: string | undefined;
  policies: string[];
  finiteLoad: number;
  steadyLoad: number;
  seconds: number;
  batchCallsMax: number;
  residentCallsMax: number | undefined;
  tiers: boolean[];
  minutes: number;
  seed: number;
  out: string | undefined;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseLiveOptions(args: readonly string[]): LiveOptions | undefined {
  const text = { type: "string" } as const;
  const values = parseFlags(args, {
    "model-file": text,
    gpu: text,
    preset: text,
    policies: text,
    "finite-load": text,
    "steady-load": text,
    seconds: text,
    batch: text,
    resident: text,
    tiers: text,
    minutes: text,
    seed: text,
    out: text,
    help: { type: "boolean", short: "h" },
  });
  if (values.help) return undefined;
  const { gpu = "false", tiers = "both", preset } = values;
  if (gpu !== "auto" && gpu !== "false") throw new UsageError(`--gpu must be auto or false, not "${gpu}"`);
  const batchCallsMax = whole("batch", values.batch, DEFAULT.batch, 1, 256);
  return {
    modelFile: values["model-file"],
    gpu: gpu === "auto" ? "auto" : false,
    preset: preset === undefined ? undefined : presetOption(preset),
    policies: (values.policies ?? DEFAULT.policies).split(",").map((name) => {
      if (!isPolicyName(name)) throw notOne("policies", name, Object.keys(policies));
      return name;
    }),
    finiteLoad: number("finite-load", values["finite-load"], DEFAULT.finite, 0, LOAD_MAX),
    steadyLoad: number("steady-load", values["steady-load"], DEFAULT.steady, 0, LOAD_MAX),
    seconds: number("seconds", values.seconds, DEFAULT.seconds, 1, SECONDS_MAX),
    batchCallsMax,
    residentCallsMax:
      values.resident === undefined ? undefined : whole("resident", values.resident, 1, batchCallsMax, 4_096),
    tiers: tiersOf(tiers),
    minutes: number("minutes", values.minutes, DEFAULT.minutes, 0.1, MINUTES_MAX),
    seed: whole("seed", values.seed, DEFAULT.seed, 0, 2 ** 31),
    out: values.out,
  };
}

/** With host memory, without. */
function tiersOf(text: string): boolean[] {
  if (text === "both") return [true, false];
  if (text === "host" || text === "none") return [text === "host"];
  throw notOne("tiers", text, ["both", "host", "none"]);
}
