import { callSpanIdOf, traceIdOf } from "@autellix/protocol";
import { expect, test } from "vitest";
import type { EndedFields, TraceFields } from "../src/events.ts";
import { requestSpan, sendRequestSpan } from "../src/spans.ts";

const fields: EndedFields = {
  ...{ call: "c", tenant: "t", program: "prog", pool: "p", model: "m", stream: true },
  ...{ status: "completed", code: undefined, promptTokens: 3, completionTokens: 4, ttftMs: 20, durationMs: 50 },
};
const times = { arrivedMs: 1_000, endedMs: 1_050, accepted: true } as TraceFields;

test("a request's span is below its call's, from arrival to the last byte, its first byte an event", () => {
  expect(requestSpan("f1", fields, times, 5_000)).toMatchObject({
    traceId: traceIdOf("t", "prog"),
    parentId: callSpanIdOf(traceIdOf("t", "prog"), { pool: "p", tenant: "t", callId: "c" }),
    ...{ kind: "server", startMs: 6_000, endMs: 6_050 },
    events: [{ name: "first byte", atMs: 6_020 }],
  });
  expect(requestSpan("f1", { ...fields, status: "failed", code: "queue_full" }, times, 0).error).toBe("queue_full");
});

test("of a request that the queue has not confirmed, or whose program is not sampled, nothing is sent", () => {
  const sent: unknown[] = [];
  const sink = (sample: number) => ({
    sample,
    send: (spans: readonly unknown[]) => void sent.push(...spans),
    counts: () => ({ sent: 0, dropped: 0 }),
    stop: async () => {},
  });
  sendRequestSpan(sink(1), "f1", fields, { ...times, accepted: false });
  sendRequestSpan(sink(0), "f1", fields, times);
  expect(sent).toEqual([]);
  sendRequestSpan(sink(1), "f1", fields, times);
  expect(sent).toHaveLength(1);
});
