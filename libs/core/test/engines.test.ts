import { describe, expect, it } from "vitest";
import { balancers, type LossCause } from "../src/index.ts";
import { Bench, nameOf, names, only } from "./bench.ts";

/** Two engines with one slot each: `a` runs on e1, `b` on e2, `c` and `d` wait. */
function twoEngines(): Bench {
  const bench = new Bench();
  bench.join("e1", { batchCallsMax: 1 });
  bench.join("e2", { batchCallsMax: 1 });
  for (const name of ["a", "b", "c", "d"]) bench.arrive(name);
  bench.run();
  expect([names(bench.plans.get("e1")?.run), names(bench.plans.get("e2")?.run)]).toEqual([["a"], ["b"]]);
  return bench;
}

describe("an engine that is lost", () => {
  it.each<[LossCause, string]>([
    ["crash", "crash"],
    ["exit", "engine_lost"],
    ["silence", "engine_lost"],
  ])("by %s: its calls get their marker before they are in a plan again", (cause, markerCause) => {
    const bench = twoEngines();
    const markers = only(bench.lose("e1", cause), "writeMarker");
    const crashes = cause === "crash" ? 1 : 0;
    expect(markers).toEqual([{ kind: "writeMarker", call: "t/a", attempt: 2, expect: 0, cause: markerCause, crashes }]);
    bench.report("e2", { finished: { b: {} } });
    expect(names(bench.plan().e2?.run)).toEqual(["c"]);
    bench.marker("a", 2, 77);
    const run = bench.plan().e2?.run;
    expect(run).toEqual([{ call: "t/a", attempt: 2, dispatch: { seq: 1, fence: 77, waitedMs: 0, servedMs: 0 } }]);
  });

  it("gives the calls that it never had to the others at once, and all keep their order", () => {
    const bench = twoEngines();
    bench.lose("e1", "silence");
    bench.report("e2", { finished: { b: {} } });
    bench.marker("a", 2, 7);
    const order: string[] = [];
    for (let i = 0; i < 3; i++) {
      bench.run();
      const [first = ""] = names(bench.plans.get("e2")?.run);
      order.push(first);
      bench.report("e2", { finished: { [first]: {} } });
    }
    expect(order).toEqual(["a", "c", "d"]);
  });

  it("leaves its calls waiting when it was the only one, and the next one gets them in their order", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    for (const name of ["a", "b", "c"]) bench.arrive(name);
    bench.run();
    bench.lose("e", "exit");
    bench.arrive("d");
    bench.marker("a", 2, 7);
    bench.join("e", { batchCallsMax: 4 }, "i2");
    expect(names(bench.plan().e?.run)).toEqual(["a", "b", "c", "d"]);
  });

  it("keeps what its calls were served for the next agent's sums", () => {
    const bench = twoEngines();
    bench.at = 50;
    bench.report("e1", { calls: { a: 9 } });
    bench.lose("e1", "silence");
    bench.report("e2", { finished: { b: {} } });
    bench.marker("a", 2, 7);
    expect(bench.plan().e2?.run[0]?.dispatch).toEqual({ seq: 1, fence: 7, waitedMs: 41, servedMs: 9 });
  });

  it("is refused when its reports come late", () => {
    const bench = twoEngines();
    bench.lose("e1", "silence");
    expect(bench.report("e1", { calls: { a: 5 } })).toEqual([]);
  });

  it("writes a marker again when another one, or none, is on the subject", () => {
    const bench = twoEngines();
    bench.lose("e1", "silence");
    const refused = { kind: "markerRefused", at: 0, call: "t/a" as never, attempt: 2, lastSeq: 31 } as const;
    expect(only(bench.feed(refused), "writeMarker")).toMatchObject([{ call: "t/a", attempt: 2, expect: 31 }]);
    bench.marker("a", 3, 99);
    bench.report("e2", { finished: { b: {} } });
    expect(names(bench.plan().e2?.run)).toEqual(["c"]);
  });
});

describe("an engine that is about to leave", () => {
  const leaves = { draining: true } as const;

  it("gets nothing new, and who waits for it waits elsewhere at once", () => {
    const bench = twoEngines();
    bench.report("e1", { calls: { a: 0 }, ...leaves });
    bench.report("e2", { finished: { b: {} } });
    bench.arrive("later");
    expect(names(bench.plan().e2?.run)).toEqual(["c"]);
    bench.report("e2", { finished: { c: {} } });
    expect(names(bench.plan().e2?.run)).toEqual(["d"]);
    bench.report("e2", { finished: { d: {} } });
    expect(names(bench.plan().e2?.run)).toEqual(["later"]);
    // What it has begun is still its own.
    expect(names(bench.plans.get("e1")?.run)).toEqual(["a"]);
  });

  it("gives back what it was given and has not begun: elsewhere behind a marker", () => {
    const bench = twoEngines();
    expect(only(bench.report("e1", { calls: {}, ...leaves }), "writeMarker")).toMatchObject([
      { call: "t/a", attempt: 2, cause: "engine_lost", crashes: 0 },
    ]);
    bench.marker("a", 2, 7);
    bench.report("e2", { finished: { b: {} } });
    expect(names(bench.plan().e2?.run)).toEqual(["a"]);
  });

  it("keeps who waits while there is no other, up to the moment when there is", () => {
    const bench = new Bench();
    bench.join("e1", { batchCallsMax: 1 });
    for (const name of ["a", "b", "c"]) bench.arrive(name);
    bench.run();
    bench.report("e1", { calls: { a: 0 }, ...leaves });
    expect(names(bench.plan().e1?.run ?? [])).toEqual([]);
    bench.join("e2", { batchCallsMax: 2 });
    expect(names(bench.plan().e2?.run)).toEqual(["b", "c"]);
  });

  it("gets nothing new when the other one is silent, and that one gets it all when it is heard", () => {
    const bench = twoEngines();
    bench.suspect("e2", true);
    bench.report("e1", { calls: { a: 0 }, ...leaves });
    bench.suspect("e1", false);
    bench.arrive("later");
    expect(bench.plan()).toEqual({});
    bench.suspect("e2", false);
    const order: string[] = [];
    bench.report("e2", { finished: { b: {} } });
    for (let i = 0; i < 3; i++) {
      bench.run();
      const [first = ""] = names(bench.plans.get("e2")?.run);
      order.push(first);
      bench.report("e2", { finished: { [first]: {} } });
    }
    expect(order).toEqual(["c", "d", "later"]);
  });
});

describe("an engine that joins", () => {
  it("shares the calls that wait, and takes none that has started", () => {
    const bench = new Bench();
    bench.join("e1", { batchCallsMax: 1 });
    for (const name of ["a", "b", "c", "d"]) bench.arrive(name);
    bench.run();
    bench.join("e2", { batchCallsMax: 1 });
    bench.run();
    expect(names(bench.plans.get("e1")?.run)).toEqual(["a"]);
    expect(names(bench.plans.get("e2")?.run)).toEqual(["b"]);
  });

  it("again in the same incarnation gets higher plan numbers than before", () => {
    const bench = new Bench();
    bench.join("e");
    bench.arrive("a");
    const before = bench.run().e?.number ?? 0;
    bench.lose("e", "silence");
    bench.join("e");
    const after = bench.plan().e;
    expect(after?.number).toBeGreaterThan(before);
    expect(after?.run).toEqual([]);
  });

  it("twice is the same engine", () => {
    const bench = new Bench();
    bench.join("e");
    bench.arrive("a");
    bench.run();
    expect(bench.join("e")).toEqual([]);
  });

  it("in a new incarnation has lost what the old one held, by a crash", () => {
    const bench = new Bench();
    bench.join("e");
    bench.arrive("a");
    bench.run();
    expect(only(bench.join("e", {}, "i2"), "writeMarker")).toMatchObject([{ attempt: 2, cause: "crash", crashes: 1 }]);
    bench.marker("a", 2, 7);
    expect(bench.plan().e).toMatchObject({ incarnation: "i2", run: [{ call: "t/a", attempt: 2 }] });
  });
});

describe("binding", () => {
  it("gives short prompts to the least used engine and keeps the program of a long one where it is", () => {
    const bench = new Bench({ balancer: balancers.locality });
    const large = { kvBlocks: 10_000, batchCallsMax: 8 };
    bench.join("e1", large);
    bench.join("e2", large);
    const where = (name: string) => [...bench.plans].find(([, plan]) => names(plan.run).includes(name))?.[0];
    bench.arrive("long-1", { program: "p", promptTokens: 2_049 });
    bench.arrive("short-1", { program: "p", promptTokens: 2_048 });
    bench.arrive("long-2", { program: "p", promptTokens: 3_000 });
    bench.arrive("long-3", { program: "p", promptTokens: 3_000 });
    bench.plan();
    expect(["long-1", "short-1", "long-2", "long-3"].map(where)).toEqual(["e1", "e2", "e1", "e1"]);
    bench.lose("e1", "exit");
    bench.arrive("long-4", { program: "p", promptTokens: 3_000 });
    bench.plan();
    expect(where("long-4")).toBe("e2");
  });

  it("goes round under round-robin", () => {
    const bench = new Bench({ balancer: balancers["round-robin"] });
    for (const engine of ["e1", "e2", "e3"]) bench.join(engine, { batchCallsMax: 4 });
    for (const name of ["a", "b", "c", "d", "e", "f"]) bench.arrive(name);
    bench.plan();
    expect([...bench.plans.values()].map(({ run }) => names(run))).toEqual([
      ["a", "d"],
      ["b", "e"],
      ["c", "f"],
    ]);
  });
});

describe("a poison call", () => {
  /** Crashes the engine under whatever runs, until nothing is in marking. */
  function crash(bench: Bench, incarnation: string): string[] {
    const charged = only(bench.join("e", {}, incarnation), "writeMarker").filter(({ cause }) => cause === "crash");
    for (const { call, attempt } of charged) bench.marker(nameOf({ call }), attempt, 100 + attempt);
    return charged.filter(({ crashes }) => crashes > 0).map((marker) => nameOf(marker));
  }

  it("makes every call of the batch a suspect, and never are two suspects in one batch again", () => {
    const bench = new Bench({ reserveCallsMax: 1 });
    bench.join("e");
    for (const name of ["poison", "innocent", "reserve", "other"]) bench.arrive(name);
    bench.run();
    expect(crash(bench, "i2")).toEqual(["poison", "innocent", "reserve"]);
    const { e: plan } = bench.run();
    expect([...names(plan?.run), ...names(plan?.reserve)]).toEqual(["poison", "other"]);
  });

  it("alone is charged when the engine crashes again, and is dead after three crashes", () => {
    const bench = new Bench();
    bench.join("e");
    for (const name of ["poison", "innocent"]) bench.arrive(name);
    bench.run();
    expect(crash(bench, "i2")).toEqual(["poison", "innocent"]);
    bench.arrive("third");
    bench.run();
    const second = only(bench.join("e", {}, "i3"), "writeMarker");
    expect(second).toMatchObject([
      { call: "t/poison", attempt: 3, crashes: 2 },
      { call: "t/third", attempt: 2, crashes: 0 },
    ]);
    bench.marker("poison", 3, 103);
    bench.marker("third", 2, 104);
    bench.run();
    const last = bench.join("e", {}, "i4");
    expect(only(last, "deadLetter")).toMatchObject([{ call: "t/poison", seq: 1, crashes: 3 }]);
    expect(only(last, "writeOutcome")).toMatchObject([
      { call: "t/poison", status: "dead", code: "dead", attempt: 3, fence: 103 },
    ]);
    expect(only(bench.seen("poison", "dead"), "ack")).toEqual([{ kind: "ack", call: "t/poison", seq: 1 }]);
  });

  it("is charged although it killed its engine before any report named it", () => {
    const bench = new Bench();
    bench.join("e");
    bench.arrive("poison");
    bench.plan();
    expect(crash(bench, "i2")).toEqual(["poison"]);
  });

  it("does not charge a parked call, nor one that waits", () => {
    const bench = new Bench();
    bench.join("e", { batchCallsMax: 1 });
    bench.arrive("parked");
    bench.run();
    bench.report("e", { calls: { parked: 10 } });
    bench.arrive("running");
    bench.arrive("waits");
    bench.run();
    expect(only(bench.lose("e", "crash"), "writeMarker")).toMatchObject([
      { call: "t/running", crashes: 1 },
      { call: "t/parked", crashes: 0 },
    ]);
  });

  it("is not found by silence or an exit", () => {
    const bench = new Bench();
    bench.join("e");
    bench.arrive("a");
    for (let i = 0; i < 10; i++) {
      bench.run();
      const [marker] = only(bench.lose("e", i % 2 === 0 ? "silence" : "exit"), "writeMarker");
      expect(marker).toMatchObject({ attempt: i + 2, crashes: 0 });
      bench.marker("a", i + 2, 10 + i);
      bench.join("e", {}, `i${i + 2}`);
    }
  });
});
