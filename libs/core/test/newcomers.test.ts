import { describe, expect, it } from "vitest";
import { type EngineCapacity, policies } from "../src/index.ts";
import { type Bench, names } from "./bench.ts";
import { ends, retaining } from "./retaining.ts";

describe("memory that is full of contexts", () => {
  const tight = { batchCallsMax: 2, residentCallsMax: 3, preemption: "recompute" } as const;

  /** Two programs with contexts whose next calls are in Q2, and a new one in Q1 that came before them. */
  function contended(over: Partial<EngineCapacity>, config?: ConstructorParameters<typeof Bench>[0]): Bench {
    const bench = retaining({ ...tight, ...over }, config);
    for (const name of ["a", "b"]) {
      bench.arrive(name, { program: name, promptTokens: 10 });
      bench.run();
      bench.report("e", { finished: { [name]: { serviceMs: 15, contextTokens: 10 } } });
      bench.plan();
    }
    bench.arrive("new", { program: "c", promptTokens: 10 });
    for (const name of ["a", "b"]) bench.arrive(`${name}2`, { program: name, promptTokens: 20 });
    bench.plan();
    return bench;
  }
  const first = (bench: Bench) => names(bench.plans.get("e")?.run)[0];

  it("gets a call without one when those that have one leave a place", () => {
    const bench = contended({});
    expect(names(bench.plans.get("e")?.run)).toEqual(["a2", "b2"]);
    bench.report("e", { finished: { a2: { serviceMs: 1, contextTokens: 20 } }, calls: { b2: 1 } });
    expect(names(bench.plan().e?.run)).toEqual(["new", "b2"]);
  });

  it("is what a host tier holds, too, by the mean size of contexts", () => {
    expect(first(contended({ preemption: "swap", hostBlocks: 0 }))).toBe("a2");
    expect(first(contended({ preemption: "swap", hostBlocks: 1 }))).toBe("new");
  });

  it("is three quarters full when others have to wait, in contexts or in blocks", () => {
    expect(first(contended({ residentCallsMax: 4 }))).toBe("new");
    expect(first(contended({ residentCallsMax: 4, kvBlocks: 3 }))).toBe("a2");
    expect(first(contended({ residentCallsMax: 4, kvBlocks: 4 }))).toBe("new");
  });

  it("does not matter under fcfs, and where the engine has a cache of its own", () => {
    expect(first(contended({}, { policy: policies.fcfs }))).toBe("new");
    expect(first(contended({ retains: false }))).toBe("new");
  });

  it("is left to one call at a time that has waited for long, and was passed by others", () => {
    const bench = retaining(tight, { beta: 2, betaFloorMs: 100 });
    for (const name of ["a", "b"]) ends(bench, name, 10, { program: name });
    for (const name of ["new", "newer"]) bench.arrive(name, { promptTokens: 10 });
    for (const name of ["a2", "b2"]) bench.arrive(name, { program: name[0] ?? "", promptTokens: 20 });
    bench.plan();
    const batch = () => names(bench.plans.get("e")?.run);
    expect(batch()).toEqual(["a2", "b2"]);
    bench.at = 199;
    bench.report("e", { calls: { a2: 1, b2: 1 } });
    bench.plan();
    expect(batch()).toEqual(["a2", "b2"]);
    bench.at = 200;
    bench.report("e", { calls: { a2: 2, b2: 2 } });
    bench.plan();
    expect(batch()).toEqual(["new", "a2"]);
    bench.report("e", { calls: { new: 1, a2: 2, b2: 2 } });
    bench.plan();
    expect(batch()).toEqual(["new", "a2"]);
    bench.report("e", { finished: { new: { serviceMs: 1 } }, calls: { a2: 2, b2: 2 } });
    bench.plan();
    expect(batch()).toEqual(["newer", "a2"]);
  });

  it("is left to the next that starves after a time, however long the one before it runs", () => {
    const bench = retaining(tight, { beta: 2, betaFloorMs: 100 });
    for (const name of ["a", "b"]) ends(bench, name, 10, { program: name });
    for (const name of ["new", "newer"]) bench.arrive(name, { promptTokens: 10 });
    for (const name of ["a2", "b2"]) bench.arrive(name, { program: name[0] ?? "", promptTokens: 20 });
    bench.plan();
    const batchAt = (at: number) => {
      bench.at = at;
      bench.report("e", { calls: { a2: 1, b2: 1, ...(at > 200 ? { new: at - 200 } : {}) } });
      bench.plan();
      return names(bench.plans.get("e")?.run);
    };
    expect(batchAt(200)).toEqual(["new", "a2"]);
    expect(batchAt(400)).not.toContain("newer");
    expect(batchAt(401)).toContain("newer");
  });

  it("is not kept for calls that may not run side by side", () => {
    const bench = retaining(tight);
    for (const name of ["a", "b"]) ends(bench, name, 10, { program: name });
    bench.suspect("e", true);
    bench.join("f");
    for (const name of ["a2", "b2"]) bench.arrive(name, { program: name[0] ?? "", promptTokens: 20 });
    bench.run();
    bench.lose("f", "crash");
    bench.suspect("e", false);
    for (const name of ["a2", "b2"]) bench.marker(name, 2, 9);
    bench.arrive("new", { promptTokens: 10 });
    bench.plan();
    expect(names(bench.plans.get("e")?.run)).toEqual(["a2", "new"]);
  });
});
