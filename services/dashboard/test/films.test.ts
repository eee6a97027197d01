import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Input, LEVELS } from "@autellix/core";
import { presets } from "@autellix/engines/cost";
import { formatInputLog } from "@autellix/protocol/input-log";
import { simulate, systems } from "@autellix/simulation";
import { describe, expect, it, onTestFinished } from "vitest";
import { DEMO_BATCH_CALLS, demoPrograms } from "../src/replay/demo.ts";
import { FRAMES_MAX } from "../src/replay/film-maker.ts";
import { DEMO, makeFilm } from "../src/replay/make-film.ts";
import type { Film, FilmAsk } from "../src/shared/film.ts";
import { emptyShot, PoolModel } from "../src/shared/pool-model.ts";
import { summarise } from "../src/shared/results.ts";

const ask = {
  kind: "workload",
  workload: DEMO,
  programs: 1,
  ratePerS: 1,
  seed: 1,
  engines: 1,
  preset: "a100-8b",
} as const;
const demo = (policy: string) => makeFilm({ ...ask, policy }, undefined);

function shortMeanMs(film: Film): number {
  return summarise(film, film.toMs).groups[0]?.meanMs ?? Number.NaN;
}

describe("a film of the demo", () => {
  it("shows what scheduling by program is for: short programs wait under fcfs and pass under plas", async () => {
    const [fcfs, plas] = [await demo("fcfs"), await demo("plas")];
    expect(shortMeanMs(fcfs)).toBeGreaterThan(5 * shortMeanMs(plas));
    // The same work is done in the same time.
    expect(plas.toMs / fcfs.toMs).toBeCloseTo(1, 1);
    expect(fcfs.pool.totals.preemptions).toBe(0);
    expect(plas.pool.totals.preemptions).toBeGreaterThan(5);
  });

  it("is the same each time", async () => {
    expect(await demo("atlas")).toEqual(await demo("atlas"));
  });

  it("goes forwards in bounded steps, and ends with nothing left", async () => {
    const film = await demo("plas");
    expect(film.frames.length).toBeLessThanOrEqual(FRAMES_MAX);
    const model = new PoolModel(emptyShot(film.pool, film.fromMs));
    let lastMs = film.fromMs;
    for (const frame of film.frames) {
      expect(frame.atMs).toBeGreaterThanOrEqual(lastMs);
      lastMs = frame.atMs;
      model.apply(frame);
      for (const { run, info } of model.engines.values()) {
        expect(run.length).toBeLessThanOrEqual(info.batchCallsMax);
        for (const call of run) expect(model.calls.get(call)?.state, call).toBe("running");
      }
    }
    expect(model.calls.size).toBe(0);
    const kinds = model.happenings.counts;
    expect(kinds.preempted).toBeGreaterThan(5);
    expect(kinds.demoted).toBeGreaterThan(5);
  });

  it("knows when each program began and ended", async () => {
    const { results } = await demo("fcfs");
    expect(results.map(({ program }) => program)).toEqual(demoPrograms().map(({ id }) => id));
    for (const { arrivedAtMs, endedAtMs = 0 } of results) expect(endedAtMs).toBeGreaterThan(arrivedAtMs);
  });
});

/** What a scheduler would have recorded of the demo under plas. */
async function recordedDemo(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "autellix-films-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const system = systems.plas;
  const config = {
    policy: "plas",
    balancer: "locality",
    ladder: system.ladder,
    binding: "arrival",
    misfit: "stop",
    windowSteps: system.windowSteps,
    reserveCallsMax: system.reserveCallsMax,
    beta: 8,
    betaFloorMs: 1_000,
    promotedShare: Number.POSITIVE_INFINITY,
    attemptsCrashedMax: 3,
    programIdleMaxMs: 3_600_000,
    cancelMemoryMs: 60_000,
    cancelMemoryMax: 10_000,
    planResendMs: 1_000,
  };
  const lines = [formatInputLog({ log: "autellix-inputs", version: 1, pool: "p", epoch: 1, config })];
  const preset = { ...presets["smollm2-cpu"], batchCallsMax: DEMO_BATCH_CALLS };
  const beforeInput = (input: Input) => void lines.push(formatInputLog({ input, commands: [] }));
  simulate({ programs: demoPrograms(), engines: 1, preset, system, plansOn: "arrival", beforeInput });
  const file = join(folder, "inputs.p.1.jsonl");
  await writeFile(file, `${lines.join("\n")}\n`);
  return file;
}

describe("a film of a recording", () => {
  it("shows what the recorded scheduler did", async () => {
    const film = await makeFilm({ kind: "recording", recording: "inputs.p.1.jsonl" }, await recordedDemo());
    expect(film.policy).toBe("plas");
    expect(film.results).toHaveLength(demoPrograms().length);
    expect(shortMeanMs(film) / shortMeanMs(await demo("plas"))).toBeCloseTo(1, 1);
    expect(film.pool.waitingByLevel).toHaveLength(LEVELS);
    expect(film.isCut).toBe(false);
  });

  it("plays its traffic under another policy", async () => {
    const file = await recordedDemo();
    const other: FilmAsk = { kind: "resimulated", recording: "r", policy: "fcfs", preset: "smollm2-cpu" };
    const film = await makeFilm(other, file);
    expect(film.policy).toBe("fcfs");
    expect(shortMeanMs(film)).toBeGreaterThan(5 * shortMeanMs(await demo("plas")));
  });
});

describe("what cannot be played", () => {
  it.each([
    [{ ...ask, workload: "nothing", policy: "plas" }, "there is no workload nothing"],
    [{ ...ask, policy: "best" }, "there is no policy best"],
    [{ ...ask, workload: "equal", preset: "gpu", policy: "plas" }, "there is no preset gpu"],
  ] as const)("is refused: %o", async (wrong, message) => {
    await expect(makeFilm(wrong, undefined)).rejects.toThrow(message);
  });
});
