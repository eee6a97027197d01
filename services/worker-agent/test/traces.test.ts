/** Spans of calls, from the machine's events: what is in them, who sends them, and how many there can be. */
import {
  callSpanIdOf,
  type Report,
  rootIdOf,
  rootSpan,
  SPANS_PER_HOLDING_MAX,
  type SpanData,
  subjects,
  type Traced,
  traceIdOf,
} from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { made, readSpan } from "../../../libs/protocol/test/support/span-text.ts";
import { chatBody, ENGINE, entry, info, marker, Rig } from "./support/rig.ts";

const MARKER = "zebra-crossing-4711";
const ROOT = rootIdOf(traceIdOf("t", "prog"));
const CALL = callSpanIdOf(traceIdOf("t", "prog"), { pool: "p", tenant: "t", callId: "a" });
/** The leader's clock is so much behind the agent's. */
const OFF_MS = 250_000;

/** @param level its queue. */
function traced(rig: Rig, call = "t/a", level = 0, more: Partial<Traced> = {}) {
  const atMs = rig.atMs - OFF_MS;
  const arrivedAtMs = atMs - 40;
  const notes: Traced = {
    atMs,
    programAtMs: atMs - 1_000,
    arrivedAtMs,
    waits: [{ level, fromMs: arrivedAtMs }],
    ...more,
  };
  return { ...entry(call, { traced: notes }), level };
}

const spansOf = (rig: Rig): SpanData[] =>
  rig.all.flatMap((effect) => (effect.kind === "sendSpans" ? effect.spans.flatMap(made).map(readSpan) : []));
const names = (spans: readonly SpanData[]) => spans.map(({ name }) => name);
const find = (rig: Rig, name: string): SpanData => {
  const found = spansOf(rig).find((span) => span.name === name);
  if (!found) throw new Error(`no span ${name} among ${names(spansOf(rig)).join(", ")}`);
  return found;
};

function expectConnected(spans: readonly SpanData[]): void {
  const ids = new Set(spans.map(({ spanId }) => spanId));
  for (const { parentId } of spans) if (parentId !== undefined) expect(ids).toContain(parentId);
  for (const { startMs, endMs } of spans) expect(endMs).toBeGreaterThanOrEqual(startMs);
  const stays = new Map(spans.filter(({ name }) => name === "stay").map((stay) => [stay.spanId, stay]));
  for (const { parentId = "", name, endMs } of spans)
    expect(endMs, `${name} after its stay`).toBeLessThanOrEqual(stays.get(parentId)?.endMs ?? Number.POSITIVE_INFINITY);
  expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);
  for (const span of spans) expect(span.traceId).toBe(traceIdOf("t", "prog"));
}

describe("a traced call", () => {
  it("is sent whole at its end, on the leader's clock, its parents first", () => {
    const rig = new Rig({ traces: true });
    const call = traced(rig, "t/a", 2, {
      behind: { reason: "slots", calls: 4, programs: ["t/other"] },
    });
    rig.plan({ run: [call] });
    rig.atMs += 10;
    rig.ready("t/a");
    rig.stepped({ "t/a": { prefilledTokens: 10, completionTokens: 1 } }, 30);
    rig.stepped({ "t/a": { completionTokens: 2 } }, 20);
    rig.stepped({ "t/a": { completionTokens: 3, finish: "stop" } }, 20);
    expect(spansOf(rig)).toEqual([]);
    rig.atMs += 5;
    rig.stored("t/a");
    const spans = spansOf(rig);
    expect(names(spans)).toEqual(["program", "chat", "queue Q3", "stay", "prefill", "decode", "store"]);
    expectConnected(spans);
    const at = call.dispatch?.traced;
    if (!at) throw new Error("not traced");
    expect(spans[0]).toEqual(rootSpan("t", "prog", at.programAtMs));
    expect(spans[1]).toMatchObject({ spanId: CALL, parentId: ROOT, startMs: at.arrivedAtMs, endMs: at.atMs + 85 });
    expect(spans[1]?.attributes).toMatchObject({
      "gen_ai.operation.name": "chat",
      "gen_ai.response.model": "m",
      "gen_ai.usage.input_tokens": 10,
      "gen_ai.usage.output_tokens": 3,
      "gen_ai.response.finish_reasons": ["stop"],
      "autellix.engine": ENGINE,
      "autellix.level": 2,
      "autellix.service_ms": 70,
      "autellix.wait.reason": "slots",
    });
    expect(find(rig, "queue Q3")).toMatchObject({ startMs: at.arrivedAtMs, endMs: at.atMs + 10 });
    expect(find(rig, "queue Q3").attributes).toMatchObject({ "autellix.wait.programs": ["t/other"] });
    expect(find(rig, "stay")).toMatchObject({ startMs: at.atMs + 10, endMs: at.atMs + 80 });
    expect(find(rig, "prefill")).toMatchObject({ startMs: at.atMs + 10, endMs: at.atMs + 40 });
    expect(find(rig, "decode")).toMatchObject({ startMs: at.atMs + 40, endMs: at.atMs + 80 });
    expect(find(rig, "store")).toMatchObject({ startMs: at.atMs + 80, endMs: at.atMs + 85 });
  });

  it("gives the leader its span with the first report that has its end, as it was sent", () => {
    const rig = new Rig({ traces: true });
    rig.plan({ run: [traced(rig)] });
    rig.ready("t/a");
    rig.finish("t/a");
    rig.stored("t/a");
    const told = rig.all.flatMap((effect) =>
      effect.kind === "send" && effect.subject === subjects.report("p") ? (effect.message as Report).finished : [],
    );
    expect(told.map(({ span }) => span && readSpan(span))).toEqual([find(rig, "chat")]);
    const [again] = rig.report().finished;
    expect(again?.call).toBe(told[0]?.call);
    expect(again).not.toHaveProperty("span");
  });

  it("that is preempted shows its parked times by queue, and what its context did with its bytes", () => {
    const rig = new Rig({
      traces: true,
      info: { ...info, preemption: "swap", hostBlocks: 100, kvBlocks: 1, residentCallsMax: 1 },
    });
    const a = traced(rig);
    rig.plan({ run: [a] });
    rig.ready("t/a");
    rig.stepped({ "t/a": { prefilledTokens: 10 } });
    const back = { call: "t/a", attempt: 1, level: 1 };
    const b = traced(rig, "t/b");
    rig.plan({ run: [b], keep: [back] });
    rig.ready("t/b");
    // The step under way is the last one that `a` is in.
    rig.stepped({ "t/a": { completionTokens: 2 } });
    rig.swapped("t/a", "out", 12, 3);
    rig.stepped({ "t/b": { finish: "stop", prefilledTokens: 10 } });
    rig.stored("t/b");
    rig.plan({ run: [back] });
    rig.swapped("t/a", "in", 12, 2);
    rig.stepped({ "t/a": { completionTokens: 3, finish: "stop" } });
    rig.stored("t/a");
    const spans = spansOf(rig).filter(({ spanId }) => spanId !== ROOT);
    const own = spans.slice(spans.findIndex(({ spanId }) => spanId === CALL));
    expect(names(own)).toEqual([
      "chat",
      "queue Q1",
      "stay",
      "prefill",
      "decode",
      "parked Q2",
      "swap out",
      "swap in",
      "stay",
    ]);
    expectConnected(spansOf(rig));
    expect(find(rig, "swap out").attributes).toMatchObject({
      "autellix.swap.bytes": 1_200,
      "autellix.swap.tokens": 12,
    });
    expect(own[0]?.attributes).toMatchObject({ "autellix.preemptions": 1, "autellix.swaps": 2 });
  });

  it("that is preempted before its first token has its prefill where that token came, and nowhere else", () => {
    const rig = new Rig({ traces: true });
    rig.plan({ run: [traced(rig)] });
    rig.ready("t/a");
    const nothing = { completionTokens: 0, tokens: 0, ids: [], text: "" };
    rig.stepped({ "t/a": nothing }, 30);
    const back = { call: "t/a", attempt: 1, level: 1 };
    rig.plan({ keep: [back] });
    rig.stepped({ "t/a": nothing }, 10);
    rig.atMs += 500;
    rig.plan({ run: [back] });
    rig.stepped({ "t/a": { completionTokens: 1 } }, 20);
    rig.stepped({ "t/a": { completionTokens: 2, finish: "stop" } }, 20);
    rig.stored("t/a");
    const spans = spansOf(rig);
    expectConnected(spans);
    expect(names(spans)).toEqual(["program", "chat", "queue Q1", "stay", "parked Q2", "stay", "prefill", "decode"]);
    const [, second] = spans.filter(({ name }) => name === "stay");
    expect(find(rig, "prefill")).toMatchObject({ parentId: second?.spanId, startMs: second?.startMs });
  });

  it("that goes on elsewhere leaves its stays here, below the span that another will send", () => {
    const rig = new Rig({ traces: true });
    rig.plan({ run: [traced(rig)] });
    rig.ready("t/a");
    rig.stepped({ "t/a": { prefilledTokens: 10 } });
    rig.plan({ run: [] });
    expect(names(spansOf(rig))).toEqual(["stay", "prefill"]);
    expect(find(rig, "stay").parentId).toBe(CALL);
  });

  it("whose result is fenced off sends no second span of the call", () => {
    const rig = new Rig({ traces: true });
    rig.plan({ run: [traced(rig)] });
    rig.ready("t/a");
    rig.finish("t/a");
    const id = rig.idOf("t/a");
    rig.happen({ kind: "outcomeWritten", id, result: { kind: "refused" } });
    rig.happen({ kind: "outcomeRead", id, result: { kind: "found", record: marker(99) } });
    rig.plan({ fences: [{ call: "t/a", attempt: 1, fence: null }] });
    expect(spansOf(rig).some(({ spanId }) => spanId === CALL)).toBe(false);
    expect(names(spansOf(rig))).toContain("stay");
  });

  it("shows earlier attempts, and which engine they were lost with", () => {
    const rig = new Rig({ traces: true });
    const fromMs = rig.atMs - OFF_MS - 30;
    const attempts = [{ attempt: 1, engine: "e0", cause: "crash" as const, fromMs, lostAtMs: fromMs + 20 }];
    const call = { ...traced(rig, "t/a", 0, { attempts }), attempt: 2 };
    rig.plan({ run: [call] });
    rig.fetched("t/a");
    rig.happen({ kind: "haveAnswered", id: rig.idOf("t/a"), answer: { state: "live", count: 0, ids: [] } });
    rig.opened("t/a");
    rig.finish("t/a");
    rig.stored("t/a");
    expectConnected(spansOf(rig));
    expect(find(rig, "lost attempt")).toMatchObject({ startMs: fromMs, endMs: fromMs + 20, error: "crash" });
    expect(find(rig, "lost attempt").attributes).toMatchObject({ "autellix.engine": "e0" });
    expect(find(rig, "fail-over")).toMatchObject({ startMs: fromMs + 20, endMs: fromMs + 30 });
    expect(find(rig, "queue Q1").endMs).toBe(fromMs);
  });

  it("notes a take-over that it lives through", () => {
    const rig = new Rig({ traces: true });
    rig.plan({ run: [traced(rig)] });
    rig.ready("t/a");
    rig.happen({ kind: "asked", ask: { kind: "report", epoch: 5 }, replyTo: "_INBOX.x" });
    rig.finish("t/a");
    rig.stored("t/a");
    expect(find(rig, "chat").events).toContainEqual(
      expect.objectContaining({ name: "take-over", attributes: { "autellix.epoch": 5 } }),
    );
    expect(find(rig, "chat").attributes["autellix.epoch"]).toBe(5);
  });

  it("names the tool whose answer it brings, in the gap before it", () => {
    const rig = new Rig({ traces: true });
    const idleFromMs = rig.atMs - OFF_MS - 500;
    const call = traced(rig, "t/a", 0, { idleFromMs });
    rig.plan({ run: [call] });
    const calls = [{ id: "1", type: "function", function: { name: "search", arguments: MARKER } }];
    const messages = [
      { role: "user", content: MARKER },
      { role: "assistant", content: null, tool_calls: calls },
      { role: "tool", tool_call_id: "1", content: MARKER },
    ];
    rig.fetched("t/a", chatBody({ messages }));
    rig.opened("t/a");
    rig.stepped({ "t/a": { finish: "stop", text: MARKER } });
    rig.stored("t/a");
    const arrivedAtMs = call.dispatch?.traced?.arrivedAtMs;
    expect(find(rig, "execute_tool search")).toMatchObject({ parentId: ROOT, startMs: idleFromMs, endMs: arrivedAtMs });
    expect(find(rig, "chat").attributes).toMatchObject({ "autellix.tools": ["search"], "autellix.interrupt_ms": 460 });
    expect(JSON.stringify(spansOf(rig))).not.toContain(MARKER);
  });

  it("sends the root with the first call of a program only", () => {
    const rig = new Rig({ traces: true });
    for (const call of ["t/a", "t/b"]) {
      rig.plan({ run: [traced(rig, call)] });
      rig.ready(call);
      rig.finish(call);
      rig.stored(call);
    }
    expect(names(spansOf(rig)).filter((name) => name === "program")).toHaveLength(1);
  });

  it("has a bounded number of spans and events, however often it is preempted", () => {
    const rig = new Rig({ traces: true, info: { ...info, preemption: "swap" } });
    rig.plan({ run: [traced(rig)], windowSteps: 1 });
    rig.ready("t/a");
    const held = { call: "t/a", attempt: 1, level: 1 };
    for (let turn = 0; turn < 300; turn++) {
      rig.stepped({ "t/a": { prefilledTokens: turn % 2, completionTokens: turn } });
      rig.plan({ keep: [held] });
      rig.stepped({ "t/a": { completionTokens: turn } });
      rig.plan({ run: [held], windowSteps: 1 });
    }
    rig.finish("t/a");
    rig.stored("t/a");
    expect(spansOf(rig).length).toBeLessThanOrEqual(SPANS_PER_HOLDING_MAX);
    expect(find(rig, "chat").attributes["autellix.preemptions"]).toBeGreaterThan(200);
    for (const { events = [] } of spansOf(rig)) expect(events.length).toBeLessThanOrEqual(32);
  });
});

it("nothing is noted and nothing is sent of a call that is not traced, or where spans cannot be sent", () => {
  const plain = new Rig({ traces: true });
  plain.plan({ run: [entry("t/a")] });
  const without = new Rig();
  without.plan({ run: [traced(without)] });
  for (const rig of [plain, without]) {
    rig.ready("t/a");
    rig.finish("t/a");
    rig.stored("t/a");
    expect(spansOf(rig)).toEqual([]);
  }
});
