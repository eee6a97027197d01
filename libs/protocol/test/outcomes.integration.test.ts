import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import {
  type Bus,
  type CallAddress,
  ensurePool,
  headers,
  keySubject,
  keys,
  OUTCOMES_STREAM,
  outcomesShareUsed,
  POOLS_STREAM,
  type RecordHead,
  readAllHeads,
  readOutcome,
  subjects,
  writeKey,
  writeOutcomeRecord,
} from "../src/index.ts";
import { lastPerSubject } from "../src/nats/snapshot.ts";
import { connectedAgain, open, startProxy, text } from "./support.ts";

const POOL = "outcomes";
const at = (callId: string): CallAddress => ({ pool: POOL, tenant: "default", callId });
const outcome = (attempt: number): RecordHead => ({
  kind: "outcome",
  status: "completed",
  code: undefined,
  attempt,
  epoch: 4,
  engine: "engine-1",
});
const marker = (attempt: number): RecordHead => ({
  kind: "marker",
  attempt,
  epoch: 4,
  engine: "engine-1",
  cause: "engine_lost",
  crashes: 0,
});

let nats: TestNats;
let bus: Bus;
beforeAll(async () => {
  nats = await startTestNats();
  bus = await open(nats.url);
  await ensurePool(bus, POOL);
});
afterAll(async () => {
  await bus?.nc.close();
  await nats?.stop();
});

describe("writing an outcome", () => {
  it("stores the first record and refuses a second that expects none", async () => {
    const first = await writeOutcomeRecord(bus, at("first"), outcome(1), text("{}"), 0);
    expect(first).toMatchObject({ kind: "stored" });
    expect(await writeOutcomeRecord(bus, at("first"), outcome(1), text("{}"), 0)).toEqual({ kind: "refused" });
    for (const from of ["leader", "any"] as const) {
      const read = await readOutcome(bus, at("first"), from);
      if (read.kind !== "found" || first.kind !== "stored") throw new Error(`${first.kind}, ${read.kind}`);
      expect(read.record).toMatchObject({ seq: first.seq, head: outcome(1) });
      expect(Buffer.from(read.record.body).toString()).toBe("{}");
    }
  });

  it("refuses a stale attempt behind a marker, and takes the one that holds the marker's fence", async () => {
    const marked = await writeOutcomeRecord(bus, at("fenced"), marker(2), new Uint8Array(), 0);
    if (marked.kind !== "stored") throw new Error(marked.kind);
    expect(await writeOutcomeRecord(bus, at("fenced"), outcome(1), text("old"), 0)).toEqual({ kind: "refused" });
    const read = await readOutcome(bus, at("fenced"), "leader");
    expect(read).toMatchObject({ kind: "found", record: { head: marker(2), seq: marked.seq } });
    const written = await writeOutcomeRecord(bus, at("fenced"), outcome(2), text("new"), marked.seq);
    expect(written.kind).toBe("stored");
    expect(await writeOutcomeRecord(bus, at("fenced"), outcome(2), text("new"), marked.seq)).toEqual({
      kind: "refused",
    });
  });

  it("says full when the stream is, and stores when there is room again", async () => {
    const { config, state } = await bus.jsm.streams.info(OUTCOMES_STREAM);
    await bus.jsm.streams.update(OUTCOMES_STREAM, { ...config, max_bytes: state.bytes + 500 });
    expect(await writeOutcomeRecord(bus, at("full"), outcome(1), new Uint8Array(2_000), 0)).toEqual({ kind: "full" });
    expect(await outcomesShareUsed(bus)).toBeGreaterThan(0);
    await bus.jsm.streams.update(OUTCOMES_STREAM, config);
    const again = await writeOutcomeRecord(bus, at("full"), outcome(1), new Uint8Array(2_000), 0);
    expect(again.kind).toBe("stored");
  });

  it("throws for a record that no message can carry", async () => {
    const body = new Uint8Array(bus.payloadBytesMax);
    await expect(writeOutcomeRecord(bus, at("wide"), outcome(1), body, 0)).rejects.toMatchObject({
      code: "body_too_large",
    });
  });

  it("is unknown, with the reason, without a server; so is reading", async () => {
    const lonely = await open(nats.url);
    await lonely.nc.close();
    const written = await writeOutcomeRecord(lonely, at("lonely"), outcome(1), text("{}"), 0);
    expect(written).toMatchObject({ kind: "unknown", cause: expect.any(Error) });
    for (const from of ["leader", "any"] as const) {
      expect(await readOutcome(lonely, at("lonely"), from)).toMatchObject({ kind: "unknown" });
    }
  });
});

describe("reading an outcome", () => {
  it("says none for a call that has no record", async () => {
    expect(await readOutcome(bus, at("none"), "leader")).toEqual({ kind: "none" });
    expect(await readOutcome(bus, at("none"), "any")).toEqual({ kind: "none" });
  });

  it("names the sequence of a stranger's message, so that a write can expect it", async () => {
    const { seq } = await bus.js.publish(subjects.outcome(POOL, "default", "strange"), text("hello"));
    expect(await readOutcome(bus, at("strange"), "leader")).toEqual({ kind: "none", seq });
    expect(await writeOutcomeRecord(bus, at("strange"), outcome(1), text("{}"), 0)).toEqual({ kind: "refused" });
    expect((await writeOutcomeRecord(bus, at("strange"), outcome(1), text("{}"), seq)).kind).toBe("stored");
  });
});

describe("a snapshot of all heads", () => {
  const pool = "snapshot";
  beforeAll(async () => {
    await ensurePool(bus, pool);
    await Promise.all(
      Array.from({ length: 3_000 }, (_, i) =>
        writeOutcomeRecord(bus, { pool, tenant: "default", callId: `c${i}` }, marker(2), text("x".repeat(50)), 0),
      ),
    );
  });

  it("has the last record of each call of the pool, and none of another pool", async () => {
    const written = await writeOutcomeRecord(bus, { pool, tenant: "default", callId: "c7" }, outcome(2), text("{}"), 0);
    expect(written.kind).toBe("refused");
    const heads = await readAllHeads(bus, pool);
    expect(heads.length).toBe(3_000);
    expect(new Set(heads.map((h) => h.callId)).size).toBe(3_000);
    expect(heads[0]).toMatchObject({ pool, tenant: "default", head: marker(2) });
    expect(await readAllHeads(bus, "no-such-pool")).toEqual([]);
  });

  it("leaves no consumer behind, also when its reader throws", async () => {
    const consumers = async () => (await bus.jsm.streams.info(OUTCOMES_STREAM)).state.consumer_count;
    const before = await consumers();
    let seen = 0;
    const read = lastPerSubject(bus, OUTCOMES_STREAM, subjects.outcomesOfPool(pool), true, () => {
      seen++;
      throw new Error("the reader failed");
    });
    await expect(read).rejects.toThrow("the reader failed");
    expect(seen).toBe(1);
    expect(await consumers()).toBe(before);
  });

  it("fails rather than being short when messages were lost on the wire", async () => {
    const proxy = await startProxy(nats.url);
    const far = await open(proxy.url);
    try {
      let seen = 0;
      const read = lastPerSubject(far, OUTCOMES_STREAM, subjects.outcomesOfPool(pool), true, () => {
        seen++;
        if (seen === 10) {
          proxy.swallow();
          void bus.nc.flush().then(() => proxy.cut());
        }
      });
      const result = await read.then(
        () => "whole",
        () => "failed",
      );
      expect(result === "failed" || seen === 3_000).toBe(true);
      await connectedAgain(far);
      expect((await readAllHeads(far, pool)).length).toBe(3_000);
    } finally {
      await far.nc.close();
      await proxy.close();
    }
  });

  it("throws without a server", async () => {
    const lonely = await open(nats.url);
    await lonely.nc.close();
    await expect(readAllHeads(lonely, pool)).rejects.toThrow();
  });

  it.each(["e2", "*"])("ends although what was announced is gone before it is read (%s)", async (gone) => {
    for (let i = 0; i < 3; i++) await writeKey(bus, keys.engine("gone", `e${i}`), text("{}"));
    const seen: string[] = [];
    const read = lastPerSubject(bus, POOLS_STREAM, keySubject(keys.enginesOfPool("gone")), false, (message) => {
      seen.push(message.subject);
    });
    await bus.jsm.streams.purge(POOLS_STREAM, { filter: keySubject(keys.engine("gone", gone)) });
    await read;
    expect(seen.length).toBeLessThanOrEqual(3);
  });
});

it("keeps the protocol's header names apart from the server's", () => {
  expect(Object.values(headers).filter((name) => name.startsWith("Nats-"))).toEqual([]);
});
