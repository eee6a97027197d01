import type { SavedEntry } from "@autellix/core";
import { type Control, type ControlAnswer, headers } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { ProgramStore } from "../src/programs.ts";
import { ended, MachineBench, of, report, writes } from "./bench.ts";

let lastToken = 0;

/** Sends a request. @returns its answer, once the entries that it waits for are stored. */
function ask(
  bench: MachineBench,
  control: Control,
  stored: "stored" | "unknown" = "stored",
): ControlAnswer | undefined {
  const token = ++lastToken;
  const effects = bench.react({ kind: "control", tenant: "default", control, token });
  for (const { key } of of(bench.react({ kind: "flushPrograms" }), "storeProgram")) {
    effects.push(...bench.react({ kind: "programStored", key, result: stored }));
  }
  return of(effects, "answer").find((effect) => effect.token === token)?.answer;
}

describe("a program", () => {
  it("is confirmed when its start is stored, not before", () => {
    const bench = MachineBench.leading();
    const start: Control = { op: "program.start", program_id: "x" };
    expect(ask(bench, start, "unknown")).toBeUndefined();
    expect(ask(bench, start)).toMatchObject({ ok: true, program: { id: "x", pool: "p", state: "open" } });
    expect(ask(bench, start)).toMatchObject({ ok: true });
  });

  it("shows its times and counts", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    for (const name of ["a", "b", "c", "d"]) bench.call(name, { [headers.program]: "x" });
    bench.agent(report("e1", 2, { finished: [ended("a")] }));
    expect(ask(bench, { op: "program.read", program_id: "x" })).toEqual({
      ok: true,
      program: {
        id: "x",
        object: "program",
        pool: "p",
        state: "open",
        service_ms: 10,
        waiting_ms: 2,
        attained_service_ms: 10,
        calls: { waiting: 1, running: 2, ended: 1 },
      },
    });
  });

  it("is ended, twice with the same answer", () => {
    const bench = MachineBench.leading();
    ask(bench, { op: "program.start", program_id: "x" });
    for (let i = 0; i < 2; i++) {
      expect(ask(bench, { op: "program.end", program_id: "x" })).toMatchObject({
        ok: true,
        program: { state: "ended" },
      });
    }
  });

  it.each<Control>([
    { op: "program.read", program_id: "nobody" },
    { op: "program.end", program_id: "nobody" },
  ])("that nobody knows is not found, and not made: $op", (control) => {
    const bench = MachineBench.leading();
    expect(ask(bench, control)).toMatchObject({ ok: false, error: { code: "not_found" } });
    expect(ask(bench, control)).toMatchObject({ ok: false });
  });

  it("is not found by another tenant", () => {
    const bench = MachineBench.leading();
    ask(bench, { op: "program.start", program_id: "x" });
    const control = { op: "program.read", program_id: "x" } as const;
    const effects = bench.react({ kind: "control", tenant: "other", control, token: 99_999 });
    expect(of(effects, "answer")).toMatchObject([{ answer: { ok: false } }]);
  });
});

describe("a cancel", () => {
  it("of a waiting call is pending until its record is stored, then ended", () => {
    const bench = MachineBench.leading();
    bench.call("c");
    const control: Control = { op: "call.cancel", call_id: "c" };
    const effects = bench.react({ kind: "control", tenant: "default", control, token: 1 });
    expect(of(effects, "answer")).toEqual([{ kind: "answer", token: 1, answer: { ok: true, call: "pending" } }]);
    const done = bench.confirm(effects);
    expect(of(done, "ack")).toHaveLength(1);
    const again = bench.react({ kind: "control", tenant: "default", control, token: 2 });
    expect(again).toMatchObject([{ kind: "lookUpOutcome", token: 2, address: { callId: "c" } }]);
    expect(bench.react({ kind: "outcomeLookedUp", token: 2, ended: true })).toEqual([
      { kind: "answer", token: 2, answer: { ok: true, call: "ended" } },
    ]);
  });

  it("of an unknown id is remembered for the call that it overtook", () => {
    const bench = MachineBench.leading();
    const control: Control = { op: "call.cancel", call_id: "c" };
    bench.react({ kind: "control", tenant: "default", control, token: 1 });
    expect(bench.react({ kind: "outcomeLookedUp", token: 1, ended: false })).toMatchObject([
      { answer: { ok: true, call: "unknown" } },
    ]);
    expect(writes(bench.call("c"))).toMatchObject([{ head: { status: "cancelled", code: "cancelled" } }]);
  });
});

describe("program entries on their way to the bucket", () => {
  const entry = (serviceMs: number): SavedEntry => ({
    program: "default/x" as never,
    serviceMs,
    waitingMs: 0,
    attained: serviceMs,
    pathServiceMs: serviceMs,
    pathWaitingMs: 0,
    endedCalls: 1,
    endedAt: undefined,
    pin: undefined,
    engines: [],
    arrivedAt: 0,
    lastArrivalAt: 0,
    lastCompletionAt: undefined,
    charged: [],
  });

  it("go in batches: many changes of one program are one write", () => {
    const store = new ProgramStore("p", 1_000);
    expect(store.save(entry(1))).toHaveLength(1);
    expect(store.save(entry(2))).toEqual([]);
    expect(store.flush()).toMatchObject([{ kind: "storeProgram", entry: { serviceMs: 2 }, ttlMs: 1_000 }]);
  });

  it("stay in order: a later change waits for the write before it", () => {
    const store = new ProgramStore("p", 1_000);
    store.save(entry(1));
    const [write] = of(store.flush(), "storeProgram");
    store.save(entry(2));
    expect(of(store.flush(), "storeProgram")).toEqual([]);
    store.stored(write?.key ?? "", true);
    expect(of(store.flush(), "storeProgram")).toMatchObject([{ entry: { serviceMs: 2 } }]);
  });

  it("are written again when a write had no answer, the newest, and all who wait are told", () => {
    const store = new ProgramStore("p", 1_000);
    store.save(entry(1));
    expect(store.wait("default", "x", 1)).toBe(true);
    const [write] = of(store.flush(), "storeProgram");
    const key = write?.key ?? "";
    expect(store.stored(key, false)).toMatchObject({ waiters: [], effects: [{ kind: "after" }] });
    store.save(entry(2));
    expect(store.wait("default", "x", 2)).toBe(true);
    expect(of(store.flush(), "storeProgram")).toMatchObject([{ entry: { serviceMs: 2 } }]);
    expect(store.stored(key, true).waiters.sort()).toEqual([1, 2]);
    expect(store.wait("default", "x", 3)).toBe(false);
    expect(store.stored(key, true)).toEqual({ waiters: [], effects: [] });
  });
});
