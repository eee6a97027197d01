/** `npm run simulate`: what other policies, engines or rates would do to an operator's own traffic, in virtual time. */
import { createReadStream } from "node:fs";
import { balancers } from "@autellix/core";
import { readPreset } from "@autellix/engines/preset-file";
import { readCallTrace, TraceError } from "@autellix/protocol/call-trace";
import { linesOf } from "@autellix/protocol/lines";
import { longestContext, type ProgramSpec, programsOfTrace, simulate, systems, workloads } from "@autellix/simulation";
import { say } from "./console.ts";
import { endUnreadable, UnreadableFile } from "./ending.ts";
import { UsageError } from "./options.ts";
import { HELP, parseSimulateOptions, type Traffic } from "./simulate/options.ts";
import { type Played, simulationText } from "./simulate/table.ts";

async function main(args: readonly string[]): Promise<void> {
  const options = parseSimulateOptions(args);
  if (!options) {
    process.stdout.write(HELP);
    return;
  }
  const { preset, engines, balancer, rateScale } = options;
  const { programs, text } = await programsOf(options.traffic);
  const longest = longestContext(programs);
  const engine = readPreset(preset);
  const { kvTokens } = engine;
  if (longest > kvTokens)
    throw new UsageError(`a call comes to ${longest} tokens of context, and an engine of ${preset} holds ${kvTokens}`);
  const offered = programs.map((program) => ({ ...program, arrivesAtMs: program.arrivesAtMs / rateScale }));
  const scale = rateScale === 1 ? "" : `, arriving ${rateScale} times as fast`;
  say(`${text}${scale}, on ${engines} × ${preset}`);
  const played = options.policies.map((policy): Played => {
    const known = systems[policy];
    const system = balancer === undefined ? known : { ...known, balancer: balancers[balancer] };
    const startMs = performance.now();
    const result = simulate({ programs: offered, engines, preset: engine, system });
    const tookS = (performance.now() - startMs) / 1_000;
    say(
      `${policy}: ${Math.round(result.endedAtMs / 1_000)} s of ${engines} × ${preset}, simulated in ${tookS.toFixed(1)} s`,
    );
    return { policy, result };
  });
  console.log(`\n${simulationText(offered, played)}`);
}

async function programsOf(traffic: Traffic): Promise<{ programs: ProgramSpec[]; text: string }> {
  if (traffic.kind === "workload") {
    const { name, programs, ratePerS, seed, arrivals } = traffic;
    return {
      programs: workloads[name]({ programs, ratePerS, seed, arrivals }),
      text: `${programs} programs of ${name}, ${ratePerS}/s, ${arrivals}, seed ${seed}`,
    };
  }
  const { files, isOpenLoop } = traffic;
  const calls = await readFiles(files);
  const { programs, skippedCalls } = programsOfTrace(calls, isOpenLoop ? "open" : "closed");
  if (programs.length === 0)
    throw new UnreadableFile(`trace_empty: no call in ${files.join(", ")} has generated anything`);
  const count = programs.reduce((sum, program) => sum + program.calls.length, 0);
  const skipped = skippedCalls === 0 ? "" : `, without ${skippedCalls} calls that generated nothing`;
  return { programs, text: `${count} calls of ${programs.length} programs${skipped}` };
}

async function readFiles(files: readonly string[]) {
  let [file, before, line] = ["", 0, 0];
  async function* lines() {
    for (file of files) {
      before = line;
      for await (const text of linesOf(createReadStream(file, "utf8"))) {
        line++;
        yield text;
      }
    }
  }
  try {
    const { calls, torn } = await readCallTrace(lines());
    if (torn) say("the last line of a file is not whole: it is left out");
    return calls;
  } catch (error) {
    if (!(error instanceof TraceError)) throw error;
    throw new UnreadableFile(`${error.code}: ${file} line ${Math.max(1, error.line - before)}: ${error.reason}`);
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  endUnreadable(error, "npm run simulate");
}
