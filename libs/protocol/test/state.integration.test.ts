import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import {
  type Bus,
  deleteKey,
  ensurePool,
  keySubject,
  keys,
  lastSeqOfKey,
  listPools,
  POOLS_STREAM,
  readKey,
  readKeys,
  watchKeys,
  writeKey,
} from "../src/index.ts";
import { connectedAgain, eventually, open, text } from "./support.ts";

let nats: TestNats;
let bus: Bus;
let poolsBefore: string[];
beforeAll(async () => {
  nats = await startTestNats();
  bus = await open(nats.url);
  poolsBefore = await listPools(bus);
  await ensurePool(bus, "state");
});
afterAll(async () => {
  await bus?.nc.close();
  await nats?.stop();
});

async function stored(result: ReturnType<typeof writeKey>): Promise<number> {
  const answer = await result;
  if (answer.kind !== "stored") throw new Error(answer.kind);
  return answer.seq;
}
const value = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString();

it("pools are listed, and there are none before the first one", async () => {
  expect(poolsBefore).toEqual([]);
  expect(await listPools(bus)).toEqual(["state"]);
});

describe("a key", () => {
  it("is written, read, deleted, and absent in between", async () => {
    const key = keys.lease("life");
    expect(await readKey(bus, key)).toBeUndefined();
    expect(await lastSeqOfKey(bus, key)).toBe(0);
    const seq = await stored(writeKey(bus, key, text("a")));
    const entry = await readKey(bus, key);
    expect({ ...entry, bytes: value(entry?.bytes) }).toMatchObject({ key, bytes: "a", seq });
    expect(Math.abs((entry?.storedAtMs ?? 0) - Date.now())).toBeLessThan(60_000);
    const deleted = await stored(deleteKey(bus, key));
    expect(await readKey(bus, key)).toBeUndefined();
    expect(await lastSeqOfKey(bus, key)).toBe(deleted);
  });

  it("is written only at the expected sequence", async () => {
    const key = keys.lease("cas");
    const seq = await stored(writeKey(bus, key, text("a"), { seq: 0 }));
    expect(await writeKey(bus, key, text("b"), { seq: 0 })).toEqual({ kind: "refused" });
    const next = await stored(writeKey(bus, key, text("b"), { seq }));
    expect(await deleteKey(bus, key, { seq })).toEqual({ kind: "refused" });
    const marker = await stored(deleteKey(bus, key, { seq: next }));
    expect(await writeKey(bus, key, text("c"), { seq: 0 })).toEqual({ kind: "refused" });
    await stored(writeKey(bus, key, text("c"), { seq: marker }));
  });

  it("can expect the sequence of another key, so that a deposed leader writes nothing", async () => {
    const lease = await stored(writeKey(bus, keys.lease("fence"), text("me")));
    const epoch = await stored(
      writeKey(bus, keys.epoch("fence"), text("me"), { key: keys.lease("fence"), seq: lease }),
    );
    const program = keys.program("fence", "default", "hf:odd name/ü");
    await stored(writeKey(bus, program, text("1"), { key: keys.epoch("fence"), seq: epoch }));
    const newer = await stored(writeKey(bus, keys.epoch("fence"), text("you")));
    expect(newer).toBeGreaterThan(epoch);
    expect(await writeKey(bus, program, text("2"), { key: keys.epoch("fence"), seq: epoch })).toEqual({
      kind: "refused",
    });
    expect(value((await readKey(bus, program))?.bytes)).toBe("1");
  });

  it("leaves a mark of its deletion that does not stay for ever", async () => {
    const key = keys.engine("state", "mark");
    await stored(writeKey(bus, key, text("x")));
    await stored(deleteKey(bus, key));
    const mark = await bus.jsm.streams.getMessage(POOLS_STREAM, { last_by_subj: keySubject(key) });
    expect(mark?.header?.get("KV-Operation")).toBe("DEL");
    expect(mark?.header?.get("Nats-TTL")).toBe("1h");
  });

  it("that ended by its own time to live is absent", async () => {
    const key = keys.engine("ttl", "e");
    await bus.js.publish(keySubject(key), text("x"), { ttl: "1s" });
    expect(value((await readKey(bus, key))?.bytes)).toBe("x");
    await eventually(async () => ((await readKey(bus, key)) === undefined ? true : undefined));
    expect(await readKeys(bus, keys.enginesOfPool("ttl"))).toEqual([]);
  });

  it("is unknown without a server when written, and throws when read", async () => {
    const lonely = await open(nats.url);
    await lonely.nc.close();
    expect(await writeKey(lonely, keys.lease("lonely"), text("a"))).toMatchObject({ kind: "unknown" });
    await expect(readKey(lonely, keys.lease("lonely"))).rejects.toThrow();
    await expect(lastSeqOfKey(lonely, keys.lease("lonely"))).rejects.toThrow();
    await expect(readKeys(lonely, keys.models)).rejects.toThrow();
  });
});

describe("several keys", () => {
  it("are read by a filter, deleted ones left out", async () => {
    for (const engine of ["a", "b", "c"]) await stored(writeKey(bus, keys.engine("many", engine), text(engine)));
    await stored(deleteKey(bus, keys.engine("many", "b")));
    await stored(writeKey(bus, keys.engine("other", "a"), text("other")));
    const entries = await readKeys(bus, keys.enginesOfPool("many"));
    expect(entries.map((e) => [e.key, value(e.bytes)])).toEqual([
      ["engine.many.a", "a"],
      ["engine.many.c", "c"],
    ]);
    expect(await readKeys(bus, keys.enginesOfPool("none"))).toEqual([]);
  });

  it("are watched: what is there, what changes, what is deleted, also after the server was killed", async () => {
    await stored(writeKey(bus, keys.model("there"), text("1")));
    const seen: [string, string | undefined][] = [];
    const watch = await watchKeys(bus, keys.models, (key, bytes) => {
      seen.push([key, value(bytes)]);
    });
    const has = async (key: string, bytes: string | undefined) =>
      await eventually(() => seen.some(([k, b]) => k === key && b === bytes) || undefined);
    await has(keys.model("there"), "1");
    await stored(writeKey(bus, keys.model("there"), text("2")));
    await has(keys.model("there"), "2");
    await stored(deleteKey(bus, keys.model("there")));
    await has(keys.model("there"), undefined);

    await nats.kill9();
    await nats.restart();
    await connectedAgain(bus);
    await stored(writeKey(bus, keys.model("after"), text("3")));
    await has(keys.model("after"), "3");

    watch.stop();
    await watch.done;
  });

  it("end the watch with the handler's error", async () => {
    await stored(writeKey(bus, keys.model("bad"), text("1")));
    const watch = await watchKeys(bus, keys.model("bad"), () => {
      throw new Error("the handler failed");
    });
    await expect(watch.done).rejects.toThrow("the handler failed");
  });
});
