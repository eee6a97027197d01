import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loseOneDelivery } from "../../../test/support/lost-delivery.ts";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import {
  ackCall,
  ackSubjectOf,
  BODIES_STORE,
  BODY_BYTES_MAX,
  type Bus,
  CALLS_STREAM,
  callsLastSeq,
  callsToRead,
  confirmAck,
  consumeCalls,
  consumerName,
  DEAD_STREAM,
  deleteBody,
  deleteOlderConsumers,
  ensurePool,
  fetchCall,
  getBody,
  headers,
  PAYLOAD_HEADROOM_BYTES,
  publishCall,
  putBody,
  storeDead,
  subjects,
} from "../src/index.ts";
import { accept, call, connectedAgain, eventually, limitCalls, open, startProxy, text } from "./support.ts";

type JsMsg = Parameters<typeof ackSubjectOf>[0];

let nats: TestNats;
let bus: Bus;
beforeAll(async () => {
  nats = await startTestNats();
  bus = await open(nats.url);
});
afterAll(async () => {
  await bus?.nc.close();
  await nats?.stop();
});

type Calls = Awaited<ReturnType<typeof consumeCalls>>;
const iterators = new WeakMap<Calls, AsyncIterator<JsMsg>>();

/** The next `count` calls. The client allows one iterator for each consumer. */
async function take(messages: Calls, count: number): Promise<JsMsg[]> {
  const iterator = iterators.get(messages) ?? messages[Symbol.asyncIterator]();
  iterators.set(messages, iterator);
  const taken: JsMsg[] = [];
  while (taken.length < count) {
    const next = await iterator.next();
    if (next.done) throw new Error(`the consumer ended after ${taken.length} of ${count}`);
    taken.push(next.value);
  }
  return taken;
}

const objects = async () => (await bus.jsm.streams.info(`OBJ_${BODIES_STORE}`)).state.messages;

describe("publishing a call", () => {
  beforeAll(async () => await ensurePool(bus, "publish"));

  it("accepts an id once while it waits, and again after its ack", async () => {
    const first = await publishCall(bus, call("publish", "once", '{"n":1}'));
    expect(first).toMatchObject({ kind: "accepted" });
    expect(await publishCall(bus, call("publish", "once", '{"n":2}'))).toEqual({ kind: "exists" });

    const messages = await consumeCalls(bus, "publish", 1);
    const [message] = await take(messages, 1);
    expect(message?.data.length).toBe(0); // headers only: no prompt reaches a scheduler
    expect(await publishCall(bus, call("publish", "once"))).toEqual({ kind: "exists" });
    expect(message && (await confirmAck(message))).toBe(true);
    expect(await publishCall(bus, call("publish", "once"))).toMatchObject({ kind: "accepted" });
    messages.stop();
  });

  it("keeps the first body when an id is published twice", async () => {
    const seq = await accept(bus, call("publish", "twice", "first"));
    await publishCall(bus, call("publish", "twice", "second"));
    const found = await fetchCall(bus, call("publish", "twice").address, seq);
    expect(found.kind === "found" && Buffer.from(found.call.bytes).toString()).toBe("first");
  });

  it("refuses a pool that does not exist", async () => {
    expect(await publishCall(bus, call("nowhere", "a"))).toEqual({ kind: "unknown_pool" });
  });

  it("says full at the stream's limit, and accepts again when the limit is raised", async () => {
    const { state } = await bus.jsm.streams.info(CALLS_STREAM);
    await limitCalls(bus, { max_msgs: state.messages });
    const before = await objects();
    expect(await publishCall(bus, call("publish", "over"))).toEqual({ kind: "full" });
    expect(await publishCall(bus, call("publish", "over", new Uint8Array(2_000_000)))).toEqual({ kind: "full" });
    // Only the mark of the deletion is left of the large body.
    expect(await objects()).toBeLessThanOrEqual(before + 1);
    await limitCalls(bus, { max_msgs: 200_000 });
    expect(await publishCall(bus, call("publish", "over"))).toMatchObject({ kind: "accepted" });
  });

  it("refuses header fields that would break or outgrow the message", async () => {
    const fields = (value: string) => ({ ...call("publish", "fields"), fields: { [headers.program]: value } });
    await expect(publishCall(bus, fields("a\r\nNats-TTL: 1s"))).rejects.toMatchObject({ code: "invalid_request" });
    await expect(publishCall(bus, fields("a".repeat(PAYLOAD_HEADROOM_BYTES)))).rejects.toMatchObject({
      code: "invalid_request",
    });
    expect(await publishCall(bus, fields("Prüfung: 7 % – 日本"))).toMatchObject({ kind: "accepted" });
  });

  it("refuses a body above the limit", async () => {
    const published = publishCall(bus, call("publish", "huge", new Uint8Array(BODY_BYTES_MAX + 1)));
    await expect(published).rejects.toMatchObject({ code: "body_too_large" });
  });

  it("is unknown while the server is down, and repeats to one call under the same id", async () => {
    const target = call("publish", "outage");
    await nats.kill9();
    const during = publishCall(bus, target);
    expect((await during).kind).toBe("unknown");
    await nats.restart();
    await connectedAgain(bus);
    const results = [await publishCall(bus, target), await publishCall(bus, target)].map((r) => r.kind);
    expect(results[1]).toBe("exists");
    expect(["accepted", "exists"]).toContain(results[0]);
  });
});

describe("a body above the payload limit", () => {
  beforeAll(async () => await ensurePool(bus, "bodies"));

  it.each([3 * 1024 * 1024, BODY_BYTES_MAX])("of %i bytes travels through the object store", async (bytes) => {
    const body = new Uint8Array(bytes).map((_, at) => at % 251);
    const published = call("bodies", `large-${bytes}`, body);
    const seq = await accept(bus, published);
    const found = await fetchCall(bus, published.address, seq);
    if (found.kind !== "found" || !found.call.bodyObject) throw new Error(`no reference: ${found.kind}`);
    expect(found.call.bytes.length).toBe(0);
    expect(Buffer.compare(await getBody(bus, found.call.bodyObject), body)).toBe(0);
    expect(await deleteBody(bus, found.call.bodyObject)).toBe(true);
    expect(await deleteBody(bus, found.call.bodyObject)).toBe(true);
    await expect(getBody(bus, found.call.bodyObject)).rejects.toMatchObject({ code: "result_expired" });
  });

  it("that was never stored is gone", async () => {
    await expect(getBody(bus, "no-such-object")).rejects.toMatchObject({ code: "result_expired" });
    expect(await deleteBody(bus, "no-such-object")).toBe(true);
  });

  it("whose pieces are missing ends the wait with an error", async () => {
    const name = await putBody(bus, "default", new Uint8Array(300_000));
    await bus.jsm.streams.purge(`OBJ_${BODIES_STORE}`, { filter: `$O.${BODIES_STORE}.C.>` });
    await expect(getBody(bus, name)).rejects.toMatchObject({ code: "queue_unavailable" });
  });

  it("has an age limit in the store", async () => {
    const { config } = await bus.jsm.streams.info(`OBJ_${BODIES_STORE}`);
    expect(config.max_age).toBe(2 * 3_600 * 1_000_000_000);
  });
});

describe("fetching a call", () => {
  beforeAll(async () => await ensurePool(bus, "fetch"));

  it("gives the body and the encoding that its publisher wants", async () => {
    const published = { ...call("fetch", "wants"), fields: { [headers.encoding]: "msgpack" } };
    const seq = await accept(bus, published);
    expect(await fetchCall(bus, published.address, seq)).toEqual({
      kind: "found",
      call: { address: published.address, bytes: Buffer.from("{}"), bodyObject: undefined, encoding: "msgpack" },
    });
  });

  it("says gone after the ack", async () => {
    const seq = await accept(bus, call("fetch", "acked"));
    const messages = await consumeCalls(bus, "fetch", 1);
    for (const message of await take(messages, 2)) await confirmAck(message);
    messages.stop();
    expect(await fetchCall(bus, call("fetch", "acked").address, seq)).toEqual({ kind: "gone" });
  });
});

describe("the leader's consumer", () => {
  it("hands every un-acked call to the next epoch, in order, and ends the old leader's", async () => {
    await ensurePool(bus, "epochs");
    for (let i = 0; i < 20; i++) await accept(bus, call("epochs", `call-${i}`));
    const old = await consumeCalls(bus, "epochs", 7);
    const taken = await take(old, 20);
    for (const message of taken.slice(0, 5)) expect(await confirmAck(message)).toBe(true);

    const ended = expect(take(old, 1)).rejects.toThrow("consumer deleted");
    await deleteOlderConsumers(bus, "epochs", 8);
    await deleteOlderConsumers(bus, "epochs", 8);
    await ended;

    const messages = await consumeCalls(bus, "epochs", 8);
    expect(await callsToRead(bus, "epochs", 8)).toBe(15);
    const again = await take(messages, 15);
    expect(again.map((m) => m.subject)).toEqual(taken.slice(5).map((m) => m.subject));
    const stale = taken[10];
    if (!stale) throw new Error("no message");
    expect(await ackCall(bus, ackSubjectOf(stale))).toBe(false);
    expect(await confirmAck(stale)).toBe(false);
    expect((await bus.jsm.consumers.info(CALLS_STREAM, consumerName("epochs", 8))).num_ack_pending).toBe(15);
    messages.stop();
  });

  it("is only deleted for its own pool and lower epochs", async () => {
    await ensurePool(bus, "own");
    await ensurePool(bus, "own-1");
    await consumeCalls(bus, "own", 3).then((m) => m.stop());
    await consumeCalls(bus, "own-1", 2).then((m) => m.stop());
    await deleteOlderConsumers(bus, "own", 3);
    await deleteOlderConsumers(bus, "own", 2);
    expect(await bus.jsm.consumers.info(CALLS_STREAM, consumerName("own", 3))).toBeDefined();
    expect(await bus.jsm.consumers.info(CALLS_STREAM, consumerName("own-1", 2))).toBeDefined();
  });

  it("acks by subject as often as needed", async () => {
    await ensurePool(bus, "acks");
    const seq = await accept(bus, call("acks", "a"));
    const messages = await consumeCalls(bus, "acks", 1);
    const [message] = await take(messages, 1);
    if (!message) throw new Error("no message");
    const subject = ackSubjectOf(message);
    expect(await ackCall(bus, subject)).toBe(true);
    expect(await ackCall(bus, subject)).toBe(true);
    expect((await fetchCall(bus, call("acks", "a").address, seq)).kind).toBe("gone");
    messages.stop();
  });

  it("gets again, when made fresh, what was lost on the wire", async () => {
    await ensurePool(bus, "wire");
    const proxy = await startProxy(nats.url);
    const far = await open(proxy.url);
    try {
      const lost = await consumeCalls(far, "wire", 1);
      const ended = expect(take(lost, 1)).rejects.toThrow("the connection was lost");
      await far.nc.flush();
      proxy.swallow();
      for (let i = 0; i < 10; i++) await accept(bus, call("wire", `lost-${i}`));
      const name = consumerName("wire", 1);
      const sent = async () => (await bus.jsm.consumers.info(CALLS_STREAM, name)).num_ack_pending;
      await eventually(async () => ((await sent()) === 10 ? true : undefined));
      proxy.cut();
      await connectedAgain(far);
      // The server counts them as delivered: this consumer would not show them again for `ack_wait`.
      expect((await bus.jsm.consumers.info(CALLS_STREAM, name)).num_pending).toBe(0);
      await ended;
      const messages = await consumeCalls(far, "wire", 1, { fresh: true });
      const taken = await take(messages, 10);
      expect(taken.map((m) => m.subject)).toEqual(
        Array.from({ length: 10 }, (_, i) => subjects.call("wire", "default", `lost-${i}`)),
      );
      messages.stop();
    } finally {
      await far.nc.close();
      await proxy.close();
    }
  });

  describe("when a delivery gets lost and no connection does, as through a server that dies on the way", () => {
    interface Reading {
      read: string[];
      end: Promise<unknown>;
    }

    function readAll(messages: Calls): Reading {
      const read: string[] = [];
      const reading = async () => {
        for await (const { subject } of messages) read.push(subject);
      };
      return { read, end: reading().catch((error: unknown) => error) };
    }

    /** @returns all calls, and the one whose delivery was lost: the last. */
    async function loseOne(pool: string, { read }: Reading): Promise<{ accepted: string[]; lost: string }> {
      const delivery = await loseOneDelivery(bus, consumerName(pool, 1));
      const accepted: string[] = [];
      while (delivery.subject === undefined) {
        const callId = `turn-${accepted.length}`;
        await accept(bus, call(pool, callId));
        accepted.push(subjects.call(pool, "default", callId));
        await eventually(async () => delivery.subject ?? read.at(accepted.length - 1));
      }
      return { accepted, lost: delivery.subject };
    }

    async function subjectsAgain(pool: string): Promise<string[]> {
      const messages = await consumeCalls(bus, pool, 1, { fresh: true });
      const again = await take(messages, await callsToRead(bus, pool, 1));
      messages.stop();
      return again.map(({ subject }) => subject);
    }

    it("ends at the gap", async () => {
      await ensurePool(bus, "gap");
      const reading = readAll(await consumeCalls(bus, "gap", 1));
      const { accepted, lost } = await loseOne("gap", reading);
      await accept(bus, call("gap", "after"));
      expect(await reading.end).toMatchObject({
        code: "queue_unavailable",
        message: expect.stringContaining("lost before delivery"),
      });
      const after = subjects.call("gap", "default", "after");
      expect(reading.read).not.toContain(lost);
      expect(reading.read).not.toContain(after); // not before what is older
      expect(await subjectsAgain("gap")).toEqual([...accepted, after]);
    });

    it("ends soon when it was the last one", async () => {
      await ensurePool(bus, "tail");
      const reading = readAll(await consumeCalls(bus, "tail", 1));
      const { accepted, lost } = await loseOne("tail", reading);
      expect(await reading.end).toMatchObject({
        code: "queue_unavailable",
        message: expect.stringContaining("do not come after delivery"),
      });
      expect(reading.read).not.toContain(lost);
      expect(await subjectsAgain("tail")).toEqual(accepted);
    });
  });

  it("ends when the server is killed, and gets every un-acked call again when made fresh", async () => {
    await ensurePool(bus, "killed");
    for (let i = 0; i < 30; i++) await accept(bus, call("killed", `before-${i}`));
    const messages = await consumeCalls(bus, "killed", 1);
    const taken = await take(messages, 30);
    for (const message of taken.slice(0, 10)) expect(await confirmAck(message)).toBe(true);
    const ended = expect(take(messages, 1)).rejects.toThrow("the connection was lost");
    await nats.kill9();
    await nats.restart();
    await connectedAgain(bus);
    await ended;
    await accept(bus, call("killed", "after"));

    const fresh = await consumeCalls(bus, "killed", 1, { fresh: true });
    const again = await take(fresh, 21);
    const waiting = taken.slice(10).map((m) => m.subject);
    expect(again.map((m) => m.subject)).toEqual([...waiting, subjects.call("killed", "default", "after")]);
    fresh.stop();
  });

  it("starts below the last sequence that the stream's leader names", async () => {
    await ensurePool(bus, "last");
    const seq = await accept(bus, call("last", "a"));
    expect(await callsLastSeq(bus)).toBe(seq);
  });
});

describe("a dead letter", () => {
  beforeAll(async () => await ensurePool(bus, "dead"));
  const letter = (callId: string) =>
    bus.jsm.streams.getMessage(DEAD_STREAM, { last_by_subj: subjects.dead("dead", "default", callId) });

  it("keeps body, headers and the reason, once", async () => {
    const poison = { ...call("dead", "poison", "the body"), fields: { [headers.program]: "p" } };
    const seq = await accept(bus, poison);
    await storeDead(bus, poison.address, seq, "crashed\r\n3 times");
    await storeDead(bus, poison.address, seq, "crashed\r\n3 times");
    const stored = await letter("poison");
    expect(Buffer.from(stored?.data ?? []).toString()).toBe("the body");
    expect(stored?.header?.get(headers.program)).toBe("p");
    expect(stored?.header?.get(headers.cause)).toBe("crashed 3 times");
    expect(stored?.header?.get("Nats-Expected-Last-Subject-Sequence")).toBe("");
    const { state } = await bus.jsm.streams.info(DEAD_STREAM, { subjects_filter: subjects.dead("dead", "*", "*") });
    expect(Object.values(state.subjects ?? {})).toEqual([1]);
  });

  it("of a message that uses the whole payload limit has its body in the object store", async () => {
    const body = new Uint8Array(bus.payloadBytesMax).fill(7);
    const { seq } = await bus.js.publish(subjects.call("dead", "default", "full"), body);
    await storeDead(bus, call("dead", "full").address, seq, "crashed");
    const stored = await letter("full");
    expect(stored?.data.length).toBe(0);
    const object = stored?.header?.get(headers.bodyObject) ?? "";
    expect((await getBody(bus, object)).length).toBe(body.length);
  });

  it("is not stored without its body when the server does not answer", async () => {
    const lonely = await open(nats.url);
    const seq = await accept(bus, call("dead", "lonely", text("kept")));
    await lonely.nc.close();
    await expect(storeDead(lonely, call("dead", "lonely").address, seq, "x")).rejects.toMatchObject({
      code: "queue_unavailable",
    });
    expect(await letter("lonely")).toBeNull();
  });
});
