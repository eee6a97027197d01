/** The command line of `npm run replay`. */
import { parseArgs } from "node:util";
import { type PresetName, presets } from "@autellix/engines/cost";
import { ENGINES_MAX, type SystemName, systems } from "@autellix/simulation";
import { orUsageError, UsageError, whole } from "../options.ts";
import { presetOption } from "../preset-option.ts";
import { policiesOf } from "../simulate/options.ts";

const DEFAULT_PRESET: PresetName = "a100-8b";

export const HELP = `npm run replay -- LOG [options]: feeds what a scheduler recorded to the core once more

  LOG             a file of npm start -- --input-log (inputs.<pool>.<epoch>.jsonl)
  --commands      print every input with its commands
  --policy A,B    instead: what these policies would do to the recorded traffic, simulated on the recorded engines
                  (${Object.keys(systems).join(", ")})
  --preset NAME   how fast those engines are: ${Object.keys(presets).join(", ")}, or a file of npm run calibrate (default ${DEFAULT_PRESET})
  --engines N     so many of them (default: as recorded)
  --open-loop     calls come at their recorded times, whatever became of those before; without it a call comes
                  as long after the calls that it waits for as it did

Exit code: 0 the same commands, 1 other commands, 2 the log or the command line cannot be read.
`;

export interface ReplayOptions {
  log: string;
  printsCommands: boolean;
  /** To be simulated; none: the log is replayed. */
  policies: readonly SystemName[];
  /** As `readPreset` takes it. */
  preset: string;
  engines: number | undefined;
  isOpenLoop: boolean;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseReplayOptions(args: readonly string[]): ReplayOptions | undefined {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const [log, ...more] = positionals;
  if (log === undefined || log === "" || more.length > 0) throw new UsageError("name one log");
  const { preset = DEFAULT_PRESET } = values;
  const simulates = values.policy !== undefined;
  const extra = (["preset", "engines", "open-loop"] as const).find((name) => values[name] !== undefined);
  if (!simulates && extra !== undefined) throw new UsageError(`--${extra} is for --policy`);
  if (simulates && values.commands) throw new UsageError("--commands is for a replay without --policy");
  return {
    log,
    printsCommands: values.commands ?? false,
    policies: simulates ? policiesOf(values.policy ?? "") : [],
    preset: presetOption(preset),
    engines: values.engines === undefined ? undefined : whole("engines", values.engines, 1, 1, ENGINES_MAX),
    isOpenLoop: values["open-loop"] ?? false,
  };
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = {
    commands: flag,
    policy: text,
    preset: text,
    engines: text,
    "open-loop": flag,
    help: { ...flag, short: "h" },
  } as const;
  return orUsageError(() => parseArgs({ args: [...args], strict: true, allowPositionals: true, options }));
}
