/**
 * How a record gets written, whatever the server answers (S3, S4). Pure: an answer in, the next step out. A write that
 * is refused or unknown is decided only by reading the subject from the stream's leader.
 */
import type { ReadResult, RecordHead, TerminalStatus, WriteResult } from "@autellix/protocol";
import type { RecordWrite } from "./events.ts";

export type NextStep =
  /** It is stored: a marker's sequence is its attempt's fence. */
  | { kind: "stored"; seq: number }
  /** The call has a terminal record already, somebody else's. */
  | { kind: "ended"; status: TerminalStatus; body: Uint8Array }
  | { kind: "write"; write: RecordWrite }
  | { kind: "read" }
  /** No answer, or no room: the same again after a pause. */
  | { kind: "readLater" }
  | { kind: "writeLater" }
  /** A leader of a higher epoch has written: this one must end (S5). */
  | { kind: "superseded"; epoch: number };

export function afterWrite(result: WriteResult): NextStep {
  switch (result.kind) {
    case "stored":
      return { kind: "stored", seq: result.seq };
    case "full":
      return { kind: "writeLater" };
    case "refused":
    case "unknown":
      return { kind: "read" };
  }
}

/** @param epoch of this leader. */
export function afterRead(write: RecordWrite, result: ReadResult, epoch: number): NextStep {
  if (result.kind === "unknown") return { kind: "readLater" };
  // A stranger's message on the subject is no record: expect its sequence, else the write is refused for ever.
  if (result.kind === "none") return { kind: "write", write: { ...write, expect: result.seq ?? 0 } };
  const { seq, head, body } = result.record;
  if (head.kind === "outcome") {
    return isOwnOutcome(write, head, epoch) ? { kind: "stored", seq } : { kind: "ended", status: head.status, body };
  }
  if (head.epoch > epoch) return { kind: "superseded", epoch: head.epoch };
  if (write.kind === "marker" && head.epoch === epoch && head.attempt === write.attempt) return { kind: "stored", seq };
  return { kind: "write", write: { ...write, expect: seq } };
}

function isOwnOutcome(write: RecordWrite, head: Extract<RecordHead, { kind: "outcome" }>, epoch: number): boolean {
  return (
    write.kind === "outcome" &&
    head.epoch === epoch &&
    head.engine === write.head.engine &&
    head.status === write.head.status
  );
}
