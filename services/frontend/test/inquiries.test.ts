import type { ControlAnswer, ProgramView } from "@autellix/protocol";
import { expect, test } from "vitest";
import { mergeViews } from "../src/http/programs.ts";
import { Driver, KEY, kinds, only } from "./driver.ts";

function view(pool: string, fields: Partial<ProgramView> = {}): ProgramView {
  return {
    id: "x",
    object: "program",
    pool,
    state: "open",
    service_ms: 10,
    waiting_ms: 5,
    attained_service_ms: 10,
    calls: { waiting: 0, running: 1, ended: 2 },
    ...fields,
  };
}

function twoPools(): Driver {
  const d = new Driver();
  d.tell({ kind: "modelSeen", model: "other", pools: ["p2"] });
  return d;
}

const read = { op: "program.read", program_id: "x" } as const;
const answer = (d: Driver, pool: string, answered: ControlAnswer | undefined) =>
  only(d.tell({ kind: "controlAnswered", inquiry: 7, pool, answer: answered }), "inquiryEnded")[0]?.result;

test("a program is asked for in every pool, and silent pools again", () => {
  const d = twoPools();
  const asked = d.tell({ kind: "programRequested", inquiry: 7, tenant: "t", message: read });
  expect(only(asked, "control").map(({ pool }) => pool)).toEqual(["p1", "p2"]);
  expect(answer(d, "p1", { ok: true, program: view("p1") })).toBeUndefined();
  expect(only(d.pass(300), "control").map(({ pool }) => pool)).toEqual(["p2"]);
  expect(answer(d, "p2", { ok: false, error: { code: "not_found", message: "" } })).toEqual({
    kind: "programs",
    views: [view("p1")],
  });
});

test("a program that no pool knows is not found", () => {
  const d = twoPools();
  d.tell({ kind: "programRequested", inquiry: 7, tenant: "t", message: read });
  answer(d, "p1", { ok: true });
  expect(answer(d, "p2", { ok: true })).toMatchObject({ failure: { code: "not_found" } });
});

test("an error of a pool is handed on", () => {
  const d = new Driver();
  d.tell({ kind: "programRequested", inquiry: 7, tenant: "t", message: { op: "program.start", program_id: "x" } });
  const error = { code: "program_ended", message: "it has ended" } as const;
  expect(answer(d, "p1", { ok: false, error })).toEqual({ kind: "failed", failure: error });
});

test("pools that stay silent make a read incomplete and an end unavailable", () => {
  for (const [op, kind] of [
    ["program.read", "programs"],
    ["program.end", "failed"],
  ] as const) {
    const d = twoPools();
    d.tell({ kind: "programRequested", inquiry: 7, tenant: "t", message: { op, program_id: "x" } });
    answer(d, "p1", { ok: true, program: view("p1") });
    expect(only(d.pass(10_100), "inquiryEnded")[0]?.result.kind).toBe(kind);
  }
});

test("without any pool the answer is that the queue is not available", () => {
  const d = new Driver();
  d.tell({ kind: "modelSeen", model: "m", pools: undefined });
  const effects = d.tell({ kind: "programRequested", inquiry: 7, tenant: "t", message: read });
  expect(only(effects, "inquiryEnded")[0]?.result).toMatchObject({ failure: { code: "queue_unavailable" } });
});

test("only so many requests wait at one time", () => {
  const d = new Driver({ inquiriesMax: 1 });
  d.tell({ kind: "programRequested", inquiry: 1, tenant: "t", message: read });
  const effects = d.tell({ kind: "programRequested", inquiry: 2, tenant: "t", message: read });
  expect(only(effects, "inquiryEnded")[0]?.result).toMatchObject({ failure: { code: "queue_unavailable" } });
});

test("cancelling a call of this frontend tells its client and repeats the cancel", () => {
  const d = new Driver().accepted();
  const effects = d.tell({ kind: "cancelRequested", inquiry: 7, tenant: "default", callId: "c1" });
  expect(kinds(effects)).toEqual(["fail", "callEnded", "cancel", "inquiryEnded"]);
  expect(only(effects, "fail")[0]?.failure.code).toBe("cancelled");
});

test("cancelling a call of somebody else asks every pool and goes on until it has ended", () => {
  const d = twoPools();
  d.tell({ kind: "cancelRequested", inquiry: 7, tenant: "default", callId: "c1" });
  answer(d, "p1", { ok: true, call: "unknown" });
  expect(answer(d, "p2", { ok: true, call: "pending" })).toEqual({ kind: "call", state: "pending" });
  expect(only(d.pass(500), "cancel")[0]?.address).toEqual({ pool: "p2", tenant: "default", callId: "c1" });
  d.tell({ kind: "cancelAnswered", key: KEY, answer: { ok: true, call: "ended" } });
  expect(d.machine.openCancels).toBe(0);
});

test("another tenant's call is not cancelled", () => {
  const d = new Driver().accepted();
  const effects = d.tell({ kind: "cancelRequested", inquiry: 7, tenant: "other", callId: "c1" });
  expect(only(effects, "control")[0]).toMatchObject({ tenant: "other" });
  expect(d.machine.openCalls).toBe(1);
});

test("views of several pools are added up, the attained service is not", () => {
  const merged = mergeViews([view("p2", { state: "ended", attained_service_ms: 30 }), view("p1")]);
  expect(merged).toMatchObject({
    state: "open",
    service_ms: 20,
    waiting_ms: 10,
    attained_service_ms: 30,
    calls: { waiting: 0, running: 2, ended: 4 },
    pools: [{ pool: "p1" }, { pool: "p2" }],
  });
  expect(mergeViews([view("p1")])).toEqual(view("p1"));
});
