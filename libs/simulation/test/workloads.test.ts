import { describe, expect, it } from "vitest";
import paper from "../src/data/paper-workloads.json" with { type: "json" };
import { changed, frozen, sensitivities } from "../src/frozen.ts";
import { type ProgramSpec, promptTokensOf } from "../src/program.ts";
import { finiteTrace, programAt, type WorkloadName, workloadNames, workloads } from "../src/workloads/index.ts";

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values: readonly number[]) =>
  Math.sqrt(mean(values.map((value) => value * value)) - mean(values) ** 2);
const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const off = (value: number, expected: number) => Math.abs(value / expected - 1);

function sample(name: WorkloadName, programs: number, seed = 1): ProgramSpec[] {
  return workloads[name]({ programs, ratePerS: 1, seed });
}
const callsOf = (programs: readonly ProgramSpec[]) => programs.map(({ calls }) => calls.length);
const all = (programs: readonly ProgramSpec[]) => programs.flatMap(({ calls }) => calls);
const contents = (programs: readonly ProgramSpec[]) => programs.map(({ arrivesAtMs: _, ...content }) => content);

describe.each(workloadNames)("workload %s", (name) => {
  const programs = sample(name, 60);

  it("is well formed: parents and contexts come before, sizes are whole, arrivals rise", () => {
    let before = 0;
    for (const program of programs) {
      expect(program.arrivesAtMs).toBeGreaterThanOrEqual(before);
      before = program.arrivesAtMs;
      expect(program.calls.length).toBeGreaterThan(0);
      for (const [index, call] of program.calls.entries()) {
        for (const parent of call.parents) expect(parent).toBeLessThan(index);
        if (call.extends !== undefined) expect(call.extends).toBeLessThan(index);
        for (const size of [call.newPromptTokens, call.decodeTokens]) {
          expect(Number.isInteger(size)).toBe(true);
          expect(size).toBeGreaterThanOrEqual(1);
        }
        expect(call.gapMs).toBeGreaterThanOrEqual(0);
      }
      const longest = promptTokensOf(program).map(
        (prompt, index) => prompt + (program.calls[index]?.decodeTokens ?? 0),
      );
      if (program.calls.length > 1) expect(Math.max(...longest)).toBeLessThanOrEqual(frozen.contextTokensMax);
    }
    expect(new Set(programs.map(({ id }) => id)).size).toBe(programs.length);
  });

  it("extends only what has ended before it begins: ancestors, or what they extend", () => {
    for (const { calls } of programs) {
      const ancestors = calls.map(() => new Set<number>());
      for (const [index, call] of calls.entries()) {
        for (const parent of call.parents) {
          ancestors[index]?.add(parent);
          for (const older of ancestors[parent] ?? []) ancestors[index]?.add(older);
        }
        if (call.extends !== undefined) expect(ancestors[index]?.has(call.extends)).toBe(true);
      }
    }
  });

  it("is the same for the same seed, whatever the rate; a rate only stretches time", () => {
    const slow = workloads[name]({ programs: 60, ratePerS: 0.25, seed: 1 });
    expect(contents(slow)).toEqual(contents(programs));
    for (const [index, { arrivesAtMs }] of slow.entries())
      expect(arrivesAtMs).toBeCloseTo(4 * (programs[index]?.arrivesAtMs ?? 0), 6);
    expect(contents(sample(name, 20))).toEqual(contents(programs.slice(0, 20)));
    expect(programAt(name, 17, programs[17]?.arrivesAtMs ?? 0, { seed: 1 })).toEqual(programs[17]);
    if (name !== "equal") expect(contents(sample(name, 60, 2))).not.toEqual(contents(programs));
  });
});

describe("the paper's workloads have the paper's means", () => {
  it("ShareGPT", () => {
    const programs = sample("sharegpt", 20_000);
    const calls = callsOf(programs);
    expect(off(mean(calls), 6.7)).toBeLessThan(0.04);
    expect(median(calls)).toBe(3);
    expect(Math.max(...calls)).toBeGreaterThan(200);
    expect(off(mean(all(programs).map((call) => call.newPromptTokens)), 256)).toBeLessThan(0.02);
    const decodes = all(programs).map((call) => call.decodeTokens);
    expect(off(mean(decodes), 277)).toBeLessThan(0.02);
    expect(off(deviation(decodes) / mean(decodes), 1.2)).toBeLessThan(0.05);
    const gaps = programs.flatMap((program) => program.calls.slice(1).map((call) => call.gapMs));
    expect(off(mean(gaps), 10_000)).toBeLessThan(0.02);
  });

  it("BFCL", () => {
    const programs = sample("bfcl", 10_000);
    expect(off(mean(callsOf(programs)), 10.75)).toBeLessThan(0.02);
    expect(median(callsOf(programs))).toBe(10);
    expect(off(mean(all(programs).map((call) => call.newPromptTokens)), 735)).toBeLessThan(0.02);
    expect(off(mean(all(programs).map((call) => call.decodeTokens)), 34)).toBeLessThan(0.02);
    const gaps = programs.flatMap((program) => program.calls.slice(1).map((call) => call.gapMs));
    expect(off(mean(gaps), 900)).toBeLessThan(0.05);
    expect(deviation(gaps)).toBeGreaterThan(2_500);
  });

  it("LATS, and its programs are trees of rounds that fork and join", () => {
    const programs = sample("lats", 2_000);
    expect(off(mean(callsOf(programs)), paper.callsPerProgram.LATS.mean)).toBeLessThan(0.04);
    expect(off(callsOf(programs).filter((calls) => calls === 22).length / programs.length, 0.216)).toBeLessThan(0.15);
    expect(off(mean(all(programs).map((c) => c.newPromptTokens)), paper.latsTokensPerCall.prefill.mean)).toBeLessThan(
      0.05,
    );
    expect(off(mean(all(programs).map((c) => c.decodeTokens)), paper.latsTokensPerCall.decode.mean)).toBeLessThan(0.01);
    const longest = programs.slice(0, 500).map((program) => Math.max(...promptTokensOf(program)));
    expect(Math.max(...longest)).toBeGreaterThan(8_000);
    expect(Math.max(...longest)).toBeLessThan(11_000);
    for (const { calls } of programs.slice(0, 50)) {
      const judges = calls.filter((call) => call.thread === "main");
      expect(judges.length).toBe(Math.floor(calls.length / 6));
      for (const judge of judges) expect(judge.parents).toHaveLength(5);
      for (const call of calls) {
        if (call.samePromptAs === undefined) continue;
        const first = calls[call.samePromptAs];
        expect(first?.samePromptAs).toBeUndefined();
        expect([first?.extends, first?.newPromptTokens]).toEqual([call.extends, call.newPromptTokens]);
        expect(first?.parents).toEqual(call.parents);
      }
    }
  });

  it("Mixed is a third of each, and each program is the one of its own workload", () => {
    const programs = sample("mixed", 3_000);
    for (const kind of ["sharegpt", "bfcl", "lats"] as const) {
      const own = programs.filter(({ workload }) => workload === kind);
      expect(off(own.length, 1_000)).toBeLessThan(0.1);
      const [first] = own;
      const index = Number(first?.id.split("-")[1]);
      expect(contents([programAt(kind, index, 0, { seed: 1 })])).toEqual(contents(own.slice(0, 1)));
    }
  });
});

describe("workloads where the paper is weak", () => {
  it("SWE-like: similar lengths", () => {
    const programs = sample("swe", 3_000);
    expect(off(mean(callsOf(programs)), 10.9)).toBeLessThan(0.02);
    expect(off(deviation(callsOf(programs)), 2.1)).toBeLessThan(0.06);
    const ends = programs.map(
      (program) => (promptTokensOf(program).at(-1) ?? 0) + (program.calls.at(-1)?.decodeTokens ?? 0),
    );
    expect(off(mean(ends), 70_000)).toBeLessThan(0.03);
  });

  it("deep research: long, with wide fan-outs that are joined", () => {
    const programs = sample("deep-research", 200);
    expect(mean(callsOf(programs))).toBeGreaterThan(200);
    const widths = all(programs).map(({ parents }) => parents.length);
    expect(Math.max(...widths)).toBeGreaterThan(40);
    for (const { calls } of programs) {
      // One end: everything that is started is read by what comes last.
      const read = new Set(calls.flatMap(({ parents }) => parents));
      expect(calls.flatMap((_, index) => (read.has(index) ? [] : [index]))).toEqual([calls.length - 1]);
    }
  });

  it("AgentX-like: 43 turns, inputs to 142k, sub-agents in 44 %", () => {
    const programs = sample("agentx", 3_000);
    const turns = programs.map(({ calls }) => calls.filter((call) => call.thread === "main").length);
    expect(off(median(turns), 43)).toBeLessThan(0.05);
    const withAgents = programs.filter(({ calls }) => calls.some((call) => call.thread !== "main"));
    expect(off(withAgents.length / programs.length, 0.44)).toBeLessThan(0.06);
    expect(off(mean(all(programs).map((call) => call.decodeTokens)), 444)).toBeLessThan(0.02);
    const near = programs.filter((_, index) => Math.abs((turns[index] ?? 0) - 43) < 4);
    const reached = near.map((program) => Math.max(...promptTokensOf(program)));
    expect(off(mean(reached), 142_000)).toBeLessThan(0.1);
  });

  it("one call each, and all alike", () => {
    expect(callsOf(sample("one-call", 100)).every((calls) => calls === 1)).toBe(true);
    const alike = new Set(sample("equal", 50).map(({ calls }) => JSON.stringify(calls)));
    expect(alike.size).toBe(1);
  });
});

describe("arrivals", () => {
  const gapsOf = (arrivals: "poisson" | "bursty") => {
    const programs = workloads["one-call"]({ programs: 50_000, ratePerS: 2, seed: 4, arrivals });
    return programs.map(({ arrivesAtMs }, index) => arrivesAtMs - (programs[index - 1]?.arrivesAtMs ?? 0));
  };

  it("are Poisson, or bursty with the stated variation, at the asked rate", () => {
    const poisson = gapsOf("poisson");
    expect(off(mean(poisson), 500)).toBeLessThan(0.02);
    expect(off(deviation(poisson) / mean(poisson), 1)).toBeLessThan(0.02);
    const bursty = gapsOf("bursty");
    expect(off(mean(bursty), 500)).toBeLessThan(0.05);
    expect(off(deviation(bursty) / mean(bursty), frozen.burstyVariation)).toBeLessThan(0.05);
  });

  it("of a finite trace are all of an interval", () => {
    const options = { ratePerS: 3, seed: 5 };
    const trace = finiteTrace("bfcl", { ...options, intervalMs: 100_000 });
    const more = workloads.bfcl({ ...options, programs: trace.length + 1 });
    expect(more.slice(0, -1)).toEqual(trace);
    expect(trace.at(-1)?.arrivesAtMs).toBeLessThan(100_000);
    expect(more.at(-1)?.arrivesAtMs).toBeGreaterThanOrEqual(100_000);
    expect(off(trace.length, 300)).toBeLessThan(0.2);
  });

  it("refuse rates, counts and intervals that are none", () => {
    const options = { programs: 1, ratePerS: 1, seed: 1 };
    for (const bad of [{ programs: 0 }, { programs: 1.5 }, { ratePerS: 0 }, { ratePerS: Number.NaN }, { seed: -1 }])
      expect(() => workloads.bfcl({ ...options, ...bad })).toThrow(RangeError);
    expect(() => finiteTrace("bfcl", { ratePerS: 1, seed: 1, intervalMs: 0 })).toThrow(RangeError);
  });
});

describe("sensitivities", () => {
  it.each(sensitivities.map((one) => [one.name, one] as const))("%s: changes its workloads and no other", (_, one) => {
    const differs = (name: WorkloadName, index: number) =>
      JSON.stringify(programAt(name, index, 0, { seed: 1 })) !==
      JSON.stringify(programAt(name, index, 0, { seed: 1, changes: one.changes }));
    for (const name of workloadNames) {
      // One conversation in 200 has more than 80 calls; what changes all programs is seen at once.
      const isNamed = one.workloads.includes(name);
      const indices = Array.from({ length: isNamed ? 2_000 : 20 }, (_, index) => index);
      expect(
        indices.some((index) => differs(name, index)),
        name,
      ).toBe(isNamed);
    }
  });

  it("leave what they do not name as it was: a think time moves no token", () => {
    const sizes = (thinkMs: number) =>
      all(workloads.sharegpt({ programs: 200, ratePerS: 1, seed: 1, changes: { thinkMs } })).map(
        ({ gapMs: _, ...call }) => call,
      );
    expect(sizes(0)).toEqual(sizes(20_000));
  });

  it("are refused when they name no number of the configuration", () => {
    expect(changed({ thinkMs: 5, lats: { width: 3 } })).toEqual({
      ...frozen,
      thinkMs: 5,
      lats: { ...frozen.lats, width: 3 },
    });
    const bad: unknown[] = [{ thinkMs: -1 }, { lats: 3 }, { lats: { deep: 3 } }, { thinkTime: 3 }, { thinkMs: "5" }];
    for (const changes of bad) expect(() => changed(changes as Parameters<typeof changed>[0])).toThrow(RangeError);
  });
});
