/** The command line of `npm run replay`. */
import { parseArgs } from "node:util";
import { isPolicyName, type PolicyName, policies } from "@autellix/core";
import { number, UsageError } from "../options.ts";

export const DEFAULT_PRESET = "a100-8b";
const ENGINES_MAX = 1_000;

export const HELP = `npm run replay -- LOG [options]: feeds what a scheduler recorded to the core once more

  LOG             a file of npm start -- --input-log (inputs.<pool>.<epoch>.jsonl)
  --commands      print every input with its commands
  --policy A,B    also: what these policies would have done with the same traffic, simulated
                  (${Object.keys(policies).join(", ")})
  --preset NAME   cost model of the simulated engines (default ${DEFAULT_PRESET})
  --engines N     engines of the simulation (default: those of the log)
  --open-loop     calls come at their recorded times, whatever became of those before; without it a call comes
                  as long after the call that it follows as it did

Exit code: 0 the same commands, 1 other commands, 2 the log or the command line cannot be read.
`;

export interface ReplayOptions {
  log: string;
  printsCommands: boolean;
  policies: readonly PolicyName[];
  preset: string;
  engines: number | undefined;
  openLoop: boolean;
}

/** @returns undefined when help was asked for. @throws UsageError */
export function parseReplayOptions(args: readonly string[]): ReplayOptions | undefined {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const [log, ...more] = positionals;
  if (log === undefined || log === "" || more.length > 0) throw new UsageError("name one log");
  return {
    log,
    printsCommands: values.commands ?? false,
    policies: (values.policy ?? "").split(",").flatMap((text) => policyNames(text.trim())),
    preset: values.preset ?? DEFAULT_PRESET,
    engines:
      values.engines === undefined ? undefined : Math.floor(number("engines", values.engines, 1, 1, ENGINES_MAX)),
    openLoop: values["open-loop"] ?? false,
  };
}

function policyNames(name: string): PolicyName[] {
  if (name === "") return [];
  if (!isPolicyName(name))
    throw new UsageError(`--policy must be of ${Object.keys(policies).join(", ")}, not "${name}"`);
  return [name];
}

function parse(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: true,
      options: { commands: flag, policy: text, preset: text, engines: text, "open-loop": flag, help: flag },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
