import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { freePort, startTestNats, type TestNats } from "../../../test/support/nats.ts";
import {
  type AutellixError,
  ask,
  type Bus,
  CALLS_STREAM,
  DEAD_STREAM,
  encode,
  ensurePool,
  headers,
  isConnected,
  listen,
  OUTCOMES_STREAM,
  openBus,
  POOLS_STREAM,
  publishCall,
  send,
  sendInbox,
  subjects,
} from "../src/index.ts";
import { call, connectedAgain, eventually, open, startFakeServer, text } from "./support.ts";

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

describe("opening the bus", () => {
  const refusal = async (url: string, connectTimeoutMs = 2_000): Promise<string> => {
    try {
      const opened = await openBus({ url, name: "test", connectTimeoutMs });
      await opened.nc.close();
    } catch (error) {
      expect(error).toMatchObject({ code: "queue_unavailable" });
      return (error as AutellixError).message;
    }
    throw new Error("it was opened");
  };

  it("refuses a server that is too old, and says which is needed", async () => {
    const old = await startFakeServer({ version: "2.10.27", jetstream: true });
    expect(await refusal(old.url)).toBe(`nats-server at ${old.url} is 2.10.27; 2.11.0 or newer is needed`);
    await old.close();
  });

  it("refuses a server without JetStream, and says how to start it", async () => {
    const bare = await startFakeServer({ version: "2.15.1" });
    expect(await refusal(bare.url, 1_000)).toBe(`nats-server at ${bare.url} has no JetStream (start it with -js)`);
    await bare.close();
  });

  it("refuses a server that takes only tiny messages", async () => {
    const tiny = await startFakeServer({ version: "2.15.1", jetstream: true, max_payload: 65_536 });
    expect(await refusal(tiny.url)).toContain("set max_payload to");
    await tiny.close();
  });

  it("gives up in time when JetStream does not answer", async () => {
    const mute = await startFakeServer({ version: "2.15.1", jetstream: true });
    expect(await refusal(mute.url, 500)).toContain("does not answer");
    await mute.close();
  });

  it("gives up in time when nobody listens, and shows no password", async () => {
    const port = await freePort();
    const message = await refusal(`nats://me:secret@127.0.0.1:${port}`, 500);
    expect(message).toContain(`no nats-server answers at nats://127.0.0.1:${port}`);
    expect(message).not.toContain("secret");
  });

  it("sends the user and password of the address", async () => {
    const fake = await startFakeServer({ version: "2.15.1", auth_required: true });
    await refusal(fake.url.replace("//", "//me:s%40cret@"), 500);
    expect(fake.received.join("")).toContain('"user":"me","pass":"s@cret"');
    await fake.close();
  });

  it("says that an address is none", async () => {
    expect(await refusal("nats://[", 500)).toContain("is no address");
  });

  it("takes several servers, of which one answers", async () => {
    const opened = await open(`nats://127.0.0.1:${await freePort()}, ${nats.url}`);
    expect(isConnected(opened)).toBe(true);
    await opened.nc.close();
    expect(isConnected(opened)).toBe(false);
  });
});

it("tells when the connection is lost and when it is back", async () => {
  const lines: string[] = [];
  const watched = await openBus({ url: nats.url, name: "watched", onStatus: (line) => lines.push(line) });
  expect(isConnected(watched)).toBe(true);
  await nats.kill9();
  await eventually(() => !isConnected(watched) || undefined);
  await nats.restart();
  await connectedAgain(watched);
  await connectedAgain(bus);
  expect(lines).toContainEqual(expect.stringMatching(/^lost nats-server 127/));
  expect(lines).toContainEqual(expect.stringMatching(/^connected to nats-server 127.* again$/));
  await watched.nc.close();
});

it("leaves a server that answers pings and nothing else, as one that is cut off from its cluster", async () => {
  const cutOff = await startFakeServer({ version: "2.15.1", jetstream: true });
  const own = await startTestNats();
  const url = `${own.url},${cutOff.url}`;
  const lines: string[] = [];
  const opening = { url, name: "test", connectTimeoutMs: 1_000, onStatus: (line: string) => lines.push(line) };
  // A client picks any of them.
  const opened = await eventually(() => openBus(opening).catch(() => undefined));
  const isAt = (server: { url: string }) => server.url.endsWith(opened.nc.getServer()) && isConnected(opened);
  try {
    expect(isAt(own)).toBe(true);
    await own.kill9();
    await eventually(() => isAt(cutOff) || undefined);
    await own.restart();
    await eventually(() => isAt(own) || undefined);
    await opened.jsm.getAccountInfo();
    const name = cutOff.url.replace("nats://", "");
    expect(lines).toContain(`JetStream does not answer at ${name}: another server is tried`);
  } finally {
    await opened.nc.close();
    await own.stop();
    await cutOff.close();
  }
});

describe("a pool", () => {
  it("comes to exist once, from many connections for many pools at the same time", async () => {
    const pools = Array.from({ length: 12 }, (_, i) => `pool-${i}`);
    const buses = await Promise.all(pools.map((_, i) => open(nats.url, `ensure-${i}`)));
    // Every pool is ensured by two connections.
    await Promise.all(
      buses.flatMap((each, i) => [
        ensurePool(each, pools[i] ?? ""),
        ensurePool(each, pools[(i + 1) % pools.length] ?? ""),
      ]),
    );
    const { config } = await bus.jsm.streams.info(CALLS_STREAM);
    expect(config.subjects.toSorted()).toEqual(pools.map(subjects.callsOfPool).toSorted());
    for (const [i, pool] of pools.entries()) {
      const result = await publishCall(buses[i] ?? bus, call(pool, "a"));
      expect(result.kind).toBe("accepted");
    }
    await Promise.all(buses.map((each) => each.nc.close()));
  });

  it("keeps an operator's settings when it is ensured again", async () => {
    const { config } = await bus.jsm.streams.info(CALLS_STREAM);
    await bus.jsm.streams.update(CALLS_STREAM, { ...config, max_msgs: 77 });
    await ensurePool(bus, "pool-0");
    await ensurePool(bus, "operator");
    const after = (await bus.jsm.streams.info(CALLS_STREAM)).config;
    expect(after.max_msgs).toBe(77);
    expect(after.subjects).toEqual([...config.subjects, subjects.callsOfPool("operator")]);
  });

  it("has the streams that the design asks for", async () => {
    const config = async (name: string) => (await bus.jsm.streams.info(name)).config;
    expect(await config(CALLS_STREAM)).toMatchObject({
      retention: "workqueue",
      storage: "file",
      discard: "new",
      discard_new_per_subject: true,
      max_msgs_per_subject: 1,
      allow_direct: true,
    });
    expect(await config(OUTCOMES_STREAM)).toMatchObject({
      retention: "limits",
      max_msgs_per_subject: 1,
      discard: "new",
      max_age: 2 * 3_600 * 1e9,
    });
    expect(await config(DEAD_STREAM)).toMatchObject({ max_msgs_per_subject: 1, discard: "old" });
    expect(await config(POOLS_STREAM)).toMatchObject({ max_msgs_per_subject: 1, allow_msg_ttl: true, max_age: 0 });
  });

  it("throws without a server", async () => {
    const lonely = await open(nats.url);
    await lonely.nc.close();
    await expect(ensurePool(lonely, "lonely")).rejects.toThrow();
  });
});

describe("core messages", () => {
  const schema = z.object({ n: z.int() });

  it("reach a listener; an invalid one, or one that its handler chokes on, harms no other", async () => {
    const got: number[] = [];
    const invalid: string[] = [];
    const subscription = listen(
      bus,
      "test.listen",
      schema,
      ({ n }) => {
        if (n === 13) throw new Error("unlucky");
        got.push(n);
      },
      (error) => {
        invalid.push(error.code);
        if (error.code === "invalid_json") throw new Error("the log is full");
      },
    );
    send(bus, "test.listen", { n: 1 });
    bus.nc.publish("test.listen", text('{"n":2}'));
    bus.nc.publish("test.listen", new Uint8Array([0xc1, 0xff, 0x00]));
    send(bus, "test.listen", { n: "three" });
    send(bus, "test.listen", { n: 13 });
    send(bus, "test.listen", { n: 4 });
    await eventually(() => got.includes(4) || undefined);
    expect(got).toEqual([1, 2, 4]);
    expect(invalid).toEqual(["invalid_json", "invalid_request", "internal_error"]);
    subscription.unsubscribe();
  });

  it("are answered; no answer, nobody there and nonsense are all undefined", async () => {
    const lines: string[] = [];
    const asking = await openBus({ url: nats.url, name: "asking", onStatus: (line) => lines.push(line) });
    bus.nc.subscribe("test.ask", { callback: (_, raw) => void raw.respond(encode({ n: 5 })) });
    bus.nc.subscribe("test.nonsense", { callback: (_, raw) => void raw.respond(text('{"n":"secret"}')) });
    bus.nc.subscribe("test.silent", { callback: () => undefined });
    await bus.nc.flush();
    expect(await ask(asking, "test.ask", {}, schema)).toEqual({ n: 5 });
    expect(await ask(asking, "test.nobody", {}, schema)).toBeUndefined();
    expect(await ask(asking, "test.silent", {}, schema, 100)).toBeUndefined();
    expect(lines).toEqual([]);
    expect(await ask(asking, "test.nonsense", {}, schema)).toBeUndefined();
    expect(lines).toEqual(["invalid answer from test.nonsense: n: must be a number"]);
    await asking.nc.close();
    expect(await ask(asking, "test.ask", {}, schema)).toBeUndefined();
  });

  it("reach an inbox outside as JSON with headers", async () => {
    const inbox = bus.nc.subscribe("_INBOX.outside", { max: 1 });
    sendInbox(bus, "_INBOX.outside", { n: 1 }, { [headers.end]: "completed" });
    for await (const message of inbox) {
      expect(message.json()).toEqual({ n: 1 });
      expect(message.headers?.get(headers.end)).toBe("completed");
    }
  });

  it("are dropped in silence once the connection is closed", async () => {
    const closed = await open(nats.url);
    const draining = closed.nc.drain();
    send(closed, "test.late", { n: 1 });
    await draining;
    send(closed, "test.late", { n: 1 });
  });
});
