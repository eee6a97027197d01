/** Makes films: of simulations, and of recorded runs. */
import { createReadStream } from "node:fs";
import { type EngineCapacity, type Input, Scheduler } from "@autellix/core";
import { type EnginePreset, isPresetName, presets } from "@autellix/engines/cost";
import { InputLogError, readInputLog } from "@autellix/protocol/input-log";
import { linesOf } from "@autellix/protocol/lines";
import {
  isSystemName,
  isWorkloadName,
  longestContext,
  type ProgramSpec,
  programsOfTrace,
  RecordedCalls,
  recordedConfig,
  recordedPreset,
  recordedSystem,
  simulate,
  systems,
  traceOf,
  workloads,
} from "@autellix/simulation";
import type { Film, FilmAsk } from "../shared/film.ts";
import { DEMO_BATCH_CALLS, demoPrograms } from "./demo.ts";
import { FilmMaker } from "./film-maker.ts";

export const DEMO = "demo";
/** Where a longer recording is cut: more inputs than a page can show. */
const INPUTS_MAX = 400_000;
/** Tenant of programs that belong to nobody. */
const TENANT = "sim";

/** @param ask as the page sent it, checked by its schema. @param file of the recording that it names. */
export async function makeFilm(ask: FilmAsk, file: string | undefined): Promise<Film> {
  switch (ask.kind) {
    case "workload":
      return filmOfWorkload(ask);
    case "recording":
      return await filmOfRecording(ask.recording, needed(file));
    case "resimulated":
      return await filmOfTraffic(ask, needed(file));
  }
}

function needed(file: string | undefined): string {
  if (file === undefined) throw new RangeError("there is no such recording");
  return file;
}

function filmOfWorkload(ask: Extract<FilmAsk, { kind: "workload" }>): Film {
  const { workload, policy, programs: count, ratePerS, seed, engines, preset } = ask;
  const isDemo = workload === DEMO;
  if (!isDemo && !isWorkloadName(workload)) throw new RangeError(`there is no workload ${workload}`);
  const programs =
    isDemo || !isWorkloadName(workload) ? demoPrograms() : workloads[workload]({ programs: count, ratePerS, seed });
  // The demo is the demo on its own engine: others would not fill it.
  const engine = isDemo ? { ...presets["smollm2-cpu"], batchCallsMax: DEMO_BATCH_CALLS } : presetOf(preset);
  return filmOfPrograms(isDemo ? "short programs behind long ones" : workload, policy, programs, isDemo ? 1 : engines, {
    preset: engine,
  });
}

function filmOfPrograms(
  title: string,
  policy: string,
  programs: readonly ProgramSpec[],
  engines: number,
  engine: { preset: EnginePreset; capacity?: EngineCapacity | undefined },
): Film {
  if (!isSystemName(policy)) throw new RangeError(`there is no policy ${policy}`);
  const preset = recordedPreset(engine.capacity, engine.preset);
  const longest = longestContext(programs);
  if (longest > preset.kvTokens)
    throw new RangeError(`a call comes to ${longest} tokens, and an engine holds ${preset.kvTokens}`);
  const system = recordedSystem(engine.capacity, systems[policy]);
  const spec = { programs, engines, preset, system, plansOn: "arrival" } as const;
  // The same run twice: first to know how long it is, then with the camera on.
  const lengthMs = simulate(spec).endedAtMs;
  const names = programs.map(({ id }) => id);
  const programName = (id: string) => ({ tenant: TENANT, program: names[Number(id.slice(1))] ?? id });
  const maker = new FilmMaker({ title, policy, lengthMs, programName });
  let core: Scheduler | undefined;
  simulate({
    ...spec,
    beforeInput: (input, scheduler) => {
      core = scheduler;
      maker.before(input, scheduler);
    },
  });
  if (!core) throw new Error("the simulation fed its core nothing");
  return maker.end(core);
}

/** What was recorded, fed to the core once more: the commands are the recorded ones (S6). */
async function filmOfRecording(name: string, file: string): Promise<Film> {
  const { firstAt, lastAt } = await spanOf(file);
  let run: { core: Scheduler; maker: FilmMaker } | undefined;
  let inputs = 0;
  let isCut = false;
  for await (const item of readInputLog(linesIn(file))) {
    if (item.kind === "header") {
      const { config } = item.header;
      const maker = new FilmMaker({
        title: name,
        policy: config.policy,
        lengthMs: lastAt - firstAt,
        programName: split,
      });
      run = { core: new Scheduler(recordedConfig(config)), maker };
    }
    if (item.kind !== "input" || !run) continue;
    isCut = run.maker.isCut || ++inputs > INPUTS_MAX;
    // An input that made the recording's core throw is its last one.
    if (isCut || item.commands === undefined) break;
    const input = heard(item.input, item.line);
    run.maker.before(input, run.core);
    run.core.apply(input);
  }
  if (!run || inputs === 0) throw new InputLogError("log_line_invalid", 1, "the log has no inputs");
  const film = run.maker.end(run.core);
  return { ...film, isCut: film.isCut || isCut };
}

async function filmOfTraffic(ask: Extract<FilmAsk, { kind: "resimulated" }>, file: string): Promise<Film> {
  const recorded = new RecordedCalls();
  let inputs = 0;
  for await (const item of readInputLog(linesIn(file))) {
    if (item.kind !== "input") continue;
    if (++inputs > INPUTS_MAX) break;
    recorded.hear(heard(item.input, item.line));
  }
  const { programs } = programsOfTrace(traceOf(recorded.all()).calls);
  if (programs.length === 0) throw new RangeError("no call of the recording has ended: there is nothing to play");
  const named = programs.map((program) => ({ ...program, id: split(program.id).program }));
  const engine = { preset: presetOf(ask.preset), capacity: recorded.capacity };
  return filmOfPrograms(ask.recording, ask.policy, named, Math.max(1, recorded.enginesMax), engine);
}

async function spanOf(file: string): Promise<{ firstAt: number; lastAt: number }> {
  let firstAt: number | undefined;
  let lastAt = 0;
  let inputs = 0;
  for await (const item of readInputLog(linesIn(file))) {
    if (item.kind !== "input") continue;
    if (++inputs > INPUTS_MAX) break;
    firstAt ??= item.input.at;
    lastAt = item.input.at;
  }
  return { firstAt: firstAt ?? 0, lastAt };
}

/** The fields of an input are the core's business; its time and kind were checked by the reader. */
function heard(input: { kind: string; at: number }, line: number): Input {
  if (!Number.isFinite(input.at)) throw new InputLogError("log_line_invalid", line, "an input has no time");
  return input as Input;
}

function presetOf(name: string): EnginePreset {
  if (!isPresetName(name)) throw new RangeError(`there is no preset ${name}`);
  return presets[name];
}

function linesIn(file: string): AsyncIterable<string> {
  return linesOf(createReadStream(file, "utf8"));
}

/** `<tenant>/<program>`, as services name a program. */
function split(id: string): { tenant: string; program: string } {
  const slash = id.indexOf("/");
  return slash < 0 ? { tenant: TENANT, program: id } : { tenant: id.slice(0, slash), program: id.slice(slash + 1) };
}
