import { encode, headers, type RecordHead } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import type { RecordWrite } from "../src/events.ts";
import { parseSaved } from "../src/take-over.ts";
import { frontendReply, MachineBench, of, writes } from "./bench.ts";

/** A call whose engine has left: its marker is on the way. */
function marking(): { bench: MachineBench; write: RecordWrite } {
  const bench = MachineBench.leading();
  bench.join("e1");
  bench.call("c", frontendReply);
  const [write] = writes(bench.agent({ kind: "exit", pool: "p", engine: "e1", incarnation: "i1" }));
  if (!write) throw new Error("no marker is written");
  return { bench, write };
}

const completed: RecordHead = {
  kind: "outcome",
  status: "completed",
  code: undefined,
  attempt: 1,
  epoch: 7,
  engine: "e1",
};

describe("a record on its way", () => {
  it("that is refused because the call has ended: acked, and who waits is told its end", () => {
    const { bench, write } = marking();
    expect(bench.react({ kind: "wrote", write, result: { kind: "refused" } })).toEqual([{ kind: "read", write }]);
    const body = encode({ call_id: "c", program_id: "c", status: "completed" });
    const record = { seq: 9, head: completed, body };
    const effects = bench.react({ kind: "read", write, result: { kind: "found", record } });
    expect(of(effects, "ack")).toMatchObject([{ seq: 1 }]);
    expect(of(effects, "sendEnd")).toMatchObject([
      { reply: "autellix.tokens.f1", status: "completed", body: { call_id: "c" } },
    ]);
  });

  it("that is refused because the call has ended: its program is charged with what the record says", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    bench.call("c", { ...frontendReply, [headers.program]: "agent" });
    const [write] = writes(bench.agent({ kind: "exit", pool: "p", engine: "e1", incarnation: "i1" }));
    if (!write) throw new Error("no marker is written");
    bench.react({ kind: "wrote", write, result: { kind: "refused" } });
    const usage = { prompt_tokens: 20, completion_tokens: 10, total_tokens: 30 };
    const timings = { waiting_ms: 250, service_ms: 1_250 };
    const body = encode({ call_id: "c", program_id: "agent", status: "completed", response: { usage }, timings });
    const record = { seq: 9, head: completed, body };
    bench.react({ kind: "read", write, result: { kind: "found", record } });
    const [save] = of(bench.react({ kind: "flushPrograms" }), "storeProgram");
    expect(save?.entry).toMatchObject({ serviceMs: 1_250, waitingMs: 250, endedCalls: 1 });
  });

  it("sends an end without a body when nobody can read the record's", () => {
    const { bench, write } = marking();
    const record = { seq: 9, head: completed, body: new Uint8Array([0xc1]) };
    const effects = bench.react({ kind: "read", write, result: { kind: "found", record } });
    expect(of(effects, "sendEnd")).toMatchObject([{ body: undefined }]);
  });

  it("is asked about later when nobody answers, and nothing is decided meanwhile", () => {
    const { bench, write } = marking();
    bench.react({ kind: "wrote", write, result: { kind: "unknown" } });
    expect(bench.react({ kind: "read", write, result: { kind: "unknown" } })).toEqual([]);
    const retry = bench.later.at(-1);
    expect(retry?.ms).toBeGreaterThan(0);
    if (retry) expect(bench.react(retry.event)).toEqual([{ kind: "read", write }]);
  });

  it("is written again behind what is on the subject", () => {
    const { bench, write } = marking();
    const effects = bench.react({ kind: "read", write, result: { kind: "none", seq: 44 } });
    expect(effects).toEqual([{ kind: "write", write: { ...write, expect: 44 } }]);
  });
});

describe("a saved entry", () => {
  const entry = {
    program: "default/x",
    serviceMs: 1,
    waitingMs: 2,
    attained: 3,
    pathServiceMs: 0.5,
    pathWaitingMs: 1.5,
    endedCalls: 4,
    endedAt: undefined,
    pin: undefined,
    engines: ["e1", "e2"],
    arrivedAt: 4,
    lastArrivalAt: 5,
    lastCompletionAt: undefined,
    charged: ["default/c"],
  };

  it("comes back as it was stored", () => {
    expect(parseSaved(encode(entry))).toEqual(entry);
    expect(parseSaved(encode({ ...entry, endedAt: 6, pin: "e1" }))).toMatchObject({ endedAt: 6, pin: "e1" });
    expect(parseSaved(encode({ ...entry, endedAt: 6, cancelled: true }))).toMatchObject({ cancelled: true });
  });

  it("of the version before still comes back: its chains are its sums, and it arrived when it was last heard of", () => {
    const bytes = Buffer.from(
      "iqdwcm9ncmFtq2RlZmF1bHQvdGVhqXNlcnZpY2VNc8tAiaIAAAAAAKl3YWl0aW5nTXMhqmF0dGFpbmVkTXPLQIMkAAAAAACqZW5kZWRDYWxscw" +
        "OnZW5kZWRBdNQAAKNwaW6lc2ltLTCtbGFzdEFycml2YWxBdMtCehO4YAe4ALBsYXN0Q29tcGxldGlvbkF0y0J6E7hgPoQAp2NoYXJnZWSTqmRl" +
        "ZmF1bHQvYzGqZGVmYXVsdC9jMqpkZWZhdWx0L2Mz",
      "base64",
    );
    expect(parseSaved(bytes)).toEqual({
      program: "default/tea",
      serviceMs: 820.25,
      waitingMs: 33,
      attained: 612.5,
      pathServiceMs: 820.25,
      pathWaitingMs: 33,
      endedCalls: 3,
      endedAt: undefined,
      pin: "sim-0",
      engines: [],
      arrivedAt: 1_792_000_000_123.5,
      lastArrivalAt: 1_792_000_000_123.5,
      lastCompletionAt: 1_792_000_001_000.25,
      charged: ["default/c1", "default/c2", "default/c3"],
    });
  });

  it.each([
    ["no bytes", new Uint8Array()],
    ["bytes that are neither msgpack nor JSON", new Uint8Array([0xc1, 0xff])],
    ["another shape", encode({ program: 7 })],
  ])("of %s is dropped: it must not keep a leader from leading", (_name, bytes) => {
    expect(parseSaved(bytes)).toBeUndefined();
  });
});
