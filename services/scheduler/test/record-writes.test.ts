import type { ReadResult, RecordHead } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import type { RecordWrite } from "../src/events.ts";
import { afterRead, afterWrite } from "../src/record-writes.ts";

const EPOCH = 7;
const address = { pool: "p", tenant: "default", callId: "c" };
const marker: RecordWrite = {
  kind: "marker",
  call: "default/c",
  address,
  attempt: 2,
  expect: 5,
  cause: "engine_lost",
  crashes: 0,
};
const outcome: RecordWrite = {
  kind: "outcome",
  call: "default/c",
  address,
  expect: 5,
  head: { kind: "outcome", status: "cancelled", code: "cancelled", attempt: 1, epoch: EPOCH, engine: "scheduler" },
  body: { call_id: "c", program_id: "c", status: "cancelled" },
  encoding: "json",
  refused: false,
  seq: 1,
  reply: undefined,
  bodyObject: undefined,
};
const body = new Uint8Array([1]);
const found = (head: RecordHead, seq = 30): ReadResult => ({ kind: "found", record: { seq, head, body } });
const markerHead = (epoch: number, attempt: number): RecordHead => ({
  kind: "marker",
  attempt,
  epoch,
  engine: "scheduler",
  cause: "crash",
  crashes: 1,
});

describe("after a write", () => {
  it("is done when it is stored, waits when the stream is full, and asks the leader when nothing is known", () => {
    expect(afterWrite({ kind: "stored", seq: 9 })).toEqual({ kind: "stored", seq: 9 });
    expect(afterWrite({ kind: "full" })).toEqual({ kind: "writeLater" });
    expect(afterWrite({ kind: "refused" })).toEqual({ kind: "read" });
    expect(afterWrite({ kind: "unknown" })).toEqual({ kind: "read" });
  });
});

describe("what the subject holds", () => {
  it("decides nothing when nobody answers", () => {
    expect(afterRead(marker, { kind: "unknown" }, EPOCH)).toEqual({ kind: "readLater" });
  });

  it("nothing: written again, expecting nothing", () => {
    expect(afterRead(marker, { kind: "none" }, EPOCH)).toEqual({ kind: "write", write: { ...marker, expect: 0 } });
  });

  it("a stranger's message: written again behind it, or the write would be refused for ever", () => {
    const next = afterRead(marker, { kind: "none", seq: 12 }, EPOCH);
    expect(next).toEqual({ kind: "write", write: { ...marker, expect: 12 } });
  });

  it("my own marker: its sequence is the fence", () => {
    expect(afterRead(marker, found(markerHead(EPOCH, 2)), EPOCH)).toEqual({ kind: "stored", seq: 30 });
  });

  it.each([
    ["an older epoch's marker", markerHead(EPOCH - 1, 2)],
    ["my own marker of another attempt", markerHead(EPOCH, 1)],
  ])("%s: written again behind it", (_name, head) => {
    expect(afterRead(marker, found(head), EPOCH)).toEqual({ kind: "write", write: { ...marker, expect: 30 } });
    expect(afterRead(outcome, found(head), EPOCH)).toEqual({ kind: "write", write: { ...outcome, expect: 30 } });
  });

  it("a newer epoch's marker: another leads", () => {
    for (const write of [marker, outcome]) {
      expect(afterRead(write, found(markerHead(EPOCH + 1, 2)), EPOCH)).toEqual({
        kind: "superseded",
        epoch: EPOCH + 1,
      });
    }
  });

  it("my own terminal record: stored", () => {
    expect(afterRead(outcome, found(outcome.head), EPOCH)).toEqual({ kind: "stored", seq: 30 });
  });

  it.each([
    ["an agent's", { status: "completed", engine: "e1", epoch: EPOCH }],
    ["another status of mine", { status: "expired", engine: "scheduler", epoch: EPOCH }],
    ["an earlier leader's", { status: "cancelled", engine: "scheduler", epoch: EPOCH - 1 }],
  ] as const)("a terminal record, %s: the call has ended, and its status counts", (_name, over) => {
    const head: RecordHead = { kind: "outcome", code: undefined, attempt: 1, ...over };
    for (const write of [marker, outcome]) {
      expect(afterRead(write, found(head), EPOCH)).toEqual({ kind: "ended", status: over.status, body });
    }
  });
});
