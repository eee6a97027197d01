/**
 * A cluster of three nats-servers with R3 streams under load, while the server that leads the queue is killed, frozen
 * and cut off: nothing that was accepted is lost, and nothing is answered twice (S1, S2, S4).
 */
import { connect, type QueueConnection, type SubmitEvent, submit } from "@autellix/client";
import { CALLS_STREAM, keys, OUTCOMES_STREAM, openBus, writeKey } from "@autellix/protocol";
import { afterAll, beforeAll, describe, expect, inject, test, vi } from "vitest";
import { type Observer, openObserver } from "../support/observer.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";
import { type Answer, startCalls } from "./calls.ts";
import { type NatsCluster, type ServerName, startNatsCluster } from "./nats-cluster.ts";

const containers = inject("containers");
const MODEL = "tiny";
const STREAMED = 8;
/** Published while the server is away, one after the other. */
const PUBLISHED = 40;
const PUBLISH_PAUSE_MS = 250;
/** State writes at once; one leader has such a number when programs end together. */
const FENCED = 40;
const SETTLE = { timeout: 90_000, interval: 250 };

let cluster: NatsCluster;
let stack: TestStack;
let observer: Observer;
let connection: QueueConnection;
let undisturbed: string[];
let published = 0;

beforeAll(async () => {
  if ("missing" in containers) return;
  cluster = await startNatsCluster(containers);
  stack = await startTestStack({
    engines: 2,
    frontends: 2,
    schedulers: 2,
    args: ["--nats-url", cluster.url],
    env: { AUTELLIX_REPLICAS: "3" },
  });
  observer = await openObserver(cluster.url);
  connection = await connect({ url: cluster.url });
  undisturbed = (await streamed()).map(({ text }) => text);
}, 180_000);

afterAll(async () => {
  await connection?.close();
  await observer?.close();
  await stack?.stop();
  await cluster?.stop();
}, 120_000);

/** Half of them through each frontend. */
async function streamed(onBegun: (begun: () => number) => void = () => {}): Promise<Answer[]> {
  const loads = stack.urls.map((url) => startCalls(url, MODEL, STREAMED / stack.urls.length));
  onBegun(() => loads.reduce((sum, load) => sum + load.begun(), 0));
  return (await Promise.all(loads.map(({ answers }) => answers))).flat();
}

interface Published {
  callId: string;
  /** As its reader has it at its end, restarts applied. */
  text: string;
  /** Of its record. */
  recorded: string | undefined;
  status: string;
}

/** One call after the other, by a client that only knows NATS. Each is published until it is known to be accepted. */
async function publishAll(): Promise<Published[]> {
  const calls: Promise<Published>[] = [];
  for (let i = 0; i < PUBLISHED; i++) {
    const call = publishOne(`cluster-${++published}`);
    call.catch(() => {}); // told by Promise.all, when all have been published
    calls.push(call);
    await new Promise((done) => setTimeout(done, PUBLISH_PAUSE_MS));
  }
  return await Promise.all(calls);
}

async function publishOne(callId: string): Promise<Published> {
  const body = { messages: [{ role: "user" as const, content: `Say ${callId}.` }], max_tokens: 20, temperature: 0 };
  const call = submit(connection, { pool: MODEL, callId, body });
  let text = "";
  const apply = (event: SubmitEvent) => {
    text = event.kind === "restart" ? "" : text + event.text;
  };
  for await (const event of call) apply(event);
  const { status, response } = await call.result();
  return { callId, text, recorded: response?.choices[0].message.content ?? undefined, status };
}

/** What became of the calls, in the records: one for each, and none of calls that nobody made. */
async function records(): Promise<number> {
  const bus = await openBus({ url: cluster.url, name: "cluster test" });
  try {
    return (await bus.jsm.streams.info(OUTCOMES_STREAM)).state.messages;
  } finally {
    await bus.nc.close();
  }
}

interface Fault {
  name: string;
  begin(server: ServerName): Promise<void>;
  end(server: ServerName): Promise<void>;
}

const faults: Fault[] = [
  { name: "killed", begin: (server) => cluster.kill(server), end: (server) => cluster.start(server) },
  { name: "frozen", begin: (server) => cluster.pause(server), end: (server) => cluster.unpause(server) },
  { name: "cut off", begin: (server) => cluster.cutOff(server), end: (server) => cluster.join(server) },
];

describe.skipIf("missing" in containers)("a cluster of three nats-servers under load", () => {
  test("writes under one epoch go through side by side; under an older one none does", async () => {
    const bus = await openBus({ url: cluster.url, name: "cluster test" });
    try {
      const [epochKey, bytes] = [keys.epoch("other"), new Uint8Array([1])];
      const older = await writeKey(bus, epochKey, bytes);
      const epoch = await writeKey(bus, epochKey, bytes);
      if (older.kind !== "stored" || epoch.kind !== "stored") throw new Error("the epochs were not written");
      const write = (seq: number) => (_: unknown, index: number) =>
        writeKey(bus, keys.program("other", "default", `p${index}`), bytes, { seq, key: epochKey });
      const written = await Promise.all(Array.from({ length: FENCED }, write(epoch.seq)));
      expect(written.map(({ kind }) => kind)).toEqual(written.map(() => "stored"));
      const late = await Promise.all(Array.from({ length: FENCED }, write(older.seq)));
      expect(late.map(({ kind }) => kind)).toEqual(late.map(() => "refused"));
    } finally {
      await bus.nc.close();
    }
  });

  test.each(faults)("the server that leads the queue is $name: nothing is lost, nothing comes twice", async (fault) => {
    const before = await records();
    // The server that came back may just be electing with the others.
    const leader = await vi.waitUntil(() => cluster.leaderOf(CALLS_STREAM).catch(() => undefined), SETTLE);
    let begun = () => 0;
    const streaming = streamed((count) => {
      begun = count;
    });
    await vi.waitUntil(() => begun() >= STREAMED / 2, SETTLE);
    const publishing = publishAll();
    await fault.begin(leader);
    // The others elect another one, and calls are accepted again, before it comes back.
    await expect.poll(() => cluster.leaderOf(CALLS_STREAM).catch(() => leader), SETTLE).not.toBe(leader);
    const answers = await streaming;
    await fault.end(leader);
    const calls = await publishing;

    expect(answers.map(({ text, error, ends }) => ({ text, error, ends }))).toEqual(
      undisturbed.map((text) => ({ text, error: undefined, ends: 1 })),
    );
    for (const { callId, text, recorded, status } of calls)
      expect({ callId, status, text }).toEqual({ callId, status: "completed", text: recorded });
    await expect.poll(() => observer.queuedCalls().catch(() => -1), SETTLE).toBe(0);
    // A server that was cut off may answer for a moment as if it still led.
    await expect.poll(() => records().catch(() => -1), SETTLE).toBe(before + STREAMED + PUBLISHED);
  });
});
