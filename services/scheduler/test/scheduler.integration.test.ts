import { balancers, policies } from "@autellix/core";
import {
  type Bus,
  CALLS_STREAM,
  consumerName,
  decode,
  headers,
  keys,
  openBus,
  readKey,
  subjects,
} from "@autellix/protocol";
import { createLogger } from "@autellix/runtime";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { loseOneDelivery } from "../../../test/support/lost-delivery.ts";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { SchedulerService } from "../src/adapter.ts";
import type { MachineConfig } from "../src/events.ts";
import { machineConfig } from "./bench.ts";
import { accept, eventually, outcomeOf, programField, publish, TestAgent } from "./test-agent.ts";

let nats: TestNats;
let bus: Bus;
let pools = 0;
const schedulers: { service: SchedulerService; bus: Bus }[] = [];
const agents: TestAgent[] = [];
const failures: unknown[] = [];

beforeAll(async () => {
  nats = await startTestNats();
  bus = await openBus({ url: nats.url, name: "test" });
});
afterEach(async () => {
  for (const agent of agents.splice(0)) agent.stop();
  for (const { service, bus: own } of schedulers.splice(0)) {
    await service.stop();
    await own.nc.close();
  }
});
afterAll(async () => {
  await bus?.nc.close();
  await nats?.stop();
});

async function startScheduler(
  pool: string,
  leader: string,
  over: Partial<MachineConfig> = {},
): Promise<{ service: SchedulerService; bus: Bus }> {
  const own = await openBus({ url: nats.url, name: `scheduler ${leader}` });
  const service = new SchedulerService({
    bus: own,
    machine: { ...machineConfig, pool, leader, ...over },
    leadership: { leader, leaseMs: 20_000, leaseMarginMs: 2_000, standbyMs: 1_500 },
    replicas: 1,
    log: createLogger({ service: "scheduler", level: "silent" }),
    fail: (error) => failures.push(error),
  });
  await service.start();
  const started = { service, bus: own };
  schedulers.push(started);
  return started;
}

/** A pool of its own for each test, whose leader acts. */
async function startPool(over: Partial<MachineConfig> = {}): Promise<string> {
  const pool = `pool${++pools}`;
  await startScheduler(pool, "first", over);
  await control(pool, { op: "program.read", program_id: "any" });
  return pool;
}

function startAgent(pool: string, options: ConstructorParameters<typeof TestAgent>[3] = {}): TestAgent {
  const agent = new TestAgent(bus, pool, `${pool}-e1`, options);
  agents.push(agent);
  return agent;
}

/** A control request in JSON, repeated until it is answered, as callers do. */
async function control(pool: string, request: object): Promise<Record<string, unknown>> {
  const bytes = new TextEncoder().encode(JSON.stringify(request));
  return await eventually(async () => {
    try {
      const reply = await bus.nc.request(subjects.control(pool, "default"), bytes, { timeout: 1_000 });
      expect(String.fromCharCode(reply.data[0] ?? 0)).toBe("{");
      return decode(reply.data) as Record<string, unknown>;
    } catch {
      return undefined; // nobody leads yet
    }
  });
}

async function queueIsEmpty(pool: string): Promise<void> {
  await eventually(async () => {
    const info = await bus.jsm.streams.info(CALLS_STREAM, { subjects_filter: subjects.callsOfPool(pool) });
    return Object.keys(info.state.subjects ?? {}).length === 0 ? true : undefined;
  });
}

it("takes a call from the queue to an agent and, after its outcome, out of the queue", async () => {
  const pool = await startPool();
  const agent = startAgent(pool);
  await accept(bus, pool, "c1", programField("prog"));
  expect((await outcomeOf(bus, pool, "c1")).head).toMatchObject({ status: "completed", attempt: 1 });
  await queueIsEmpty(pool);
  expect([...agent.given]).toEqual(["default/c1#1"]);
  const read = await control(pool, { op: "program.read", program_id: "prog" });
  expect(read).toMatchObject({ ok: true, program: { service_ms: 5, waiting_ms: 1, calls: { ended: 1 } } });
});

it.each([
  ...Object.keys(policies).map((policy) => [policy, "locality"] as const),
  ...Object.keys(balancers).map((balancer) => ["plas", balancer] as const),
])("serves a program with parents and threads under %s with %s", async (policy, balancer) => {
  const pool = await startPool({ policy, balancer, ladder: { first: 4, levels: 7, factor: 2 } });
  startAgent(pool);
  const ids = ["root", "left", "right", "join"];
  const parents = ["", "root", "root", "left,right"];
  for (const [index, id] of ids.entries()) {
    const fields = { [headers.thread]: id, ...(parents[index] ? { [headers.parents]: parents[index] } : {}) };
    await accept(bus, pool, id, { ...programField("prog"), ...fields });
  }
  for (const id of ids) expect((await outcomeOf(bus, pool, id)).head).toMatchObject({ status: "completed" });
  await queueIsEmpty(pool);
  const read = await control(pool, { op: "program.read", program_id: "prog" });
  expect(read).toMatchObject({ program: { service_ms: 20, calls: { ended: 4 } } });
});

it("reads a call whose delivery got lost while no connection was", async () => {
  const pool = await startPool();
  startAgent(pool);
  const epoch = await readKey(bus, keys.epoch(pool));
  const delivery = await loseOneDelivery(bus, consumerName(pool, epoch?.seq ?? 0));
  const ids = ["c1", "c2"];
  for (const id of ids) await accept(bus, pool, id);
  await eventually(async () => delivery.subject);
  for (const id of ids)
    expect((await outcomeOf(bus, pool, id)).head).toMatchObject({ status: "completed", attempt: 1 });
  await queueIsEmpty(pool);
});

it("opens, shows and ends a program for clients that speak JSON over NATS only", async () => {
  const pool = await startPool();
  const id = "mein Programm / 7";
  expect(await control(pool, { op: "program.start", program_id: id })).toMatchObject({ ok: true });
  expect(await control(pool, { op: "program.read", program_id: id })).toMatchObject({ program: { id, state: "open" } });
  expect(await control(pool, { op: "program.end", program_id: id })).toMatchObject({ program: { state: "ended" } });
  await accept(bus, pool, "late", programField(id));
  expect((await outcomeOf(bus, pool, "late")).head).toMatchObject({ status: "failed", code: "program_ended" });
  await queueIsEmpty(pool);
  expect(await control(pool, { op: "program.read", program_id: "nobody" })).toMatchObject({
    ok: false,
    error: { code: "not_found" },
  });
  expect(await control(pool, { op: "dance" })).toMatchObject({ ok: false, error: { code: "invalid_request" } });
});

it("cancels a call that waits", async () => {
  const pool = await startPool();
  await accept(bus, pool, "waits");
  const cancel = { op: "call.cancel", call_id: "waits" };
  await eventually(async () => ((await control(pool, cancel)).call === "unknown" ? undefined : true));
  expect((await outcomeOf(bus, pool, "waits")).head).toMatchObject({ status: "cancelled", code: "cancelled" });
  await queueIsEmpty(pool);
  expect(await control(pool, cancel)).toEqual({ ok: true, call: "ended" });
});

it("cancels a call that runs through its agent", async () => {
  const pool = await startPool();
  const agent = startAgent(pool, { endsAtOnce: false });
  await accept(bus, pool, "runs");
  await eventually(() => (agent.held.has("default/runs") ? true : undefined));
  expect(await control(pool, { op: "call.cancel", call_id: "runs" })).toEqual({ ok: true, call: "pending" });
  expect((await outcomeOf(bus, pool, "runs")).head).toMatchObject({ status: "cancelled", engine: `${pool}-e1` });
  await queueIsEmpty(pool);
});

it("ends a call with bad headers with a code, and those beside it go on", async () => {
  const pool = await startPool();
  startAgent(pool);
  await accept(bus, pool, "bad-deadline", { [headers.deadlineMs]: "soon" });
  await accept(bus, pool, "bad-reply", { [headers.reply]: "$KV.autellix_pools.lease.x" });
  await accept(bus, pool, "bad!id");
  await accept(bus, pool, "good");
  const codes = await Promise.all(
    ["bad-deadline", "bad-reply", "bad!id", "good"].map(async (id) => (await outcomeOf(bus, pool, id)).head),
  );
  expect(codes).toMatchObject([
    { status: "failed", code: "invalid_request" },
    { status: "failed", code: "bad_reply_subject" },
    { status: "failed", code: "bad_call_id" },
    { status: "completed" },
  ]);
  await queueIsEmpty(pool);
});

it("hands over to the standby when the leader is cut off: nothing is lost, what runs does not start over", async () => {
  const pool = await startPool();
  const [first] = schedulers;
  const agent = startAgent(pool, { endsAtOnce: false });
  const ids = ["c0", "c1", "c2", "c3", "c4"];
  for (const id of ids) await accept(bus, pool, id);
  await eventually(() => (agent.held.size === 2 ? true : undefined));
  await control(pool, { op: "program.start", program_id: "kept" });

  await first?.bus.nc.close();
  await startScheduler(pool, "second");
  const running = [...agent.held.keys()];
  expect(await control(pool, { op: "program.read", program_id: "kept" })).toMatchObject({ ok: true });
  for (let ended = 0; ended < ids.length; ended++) {
    const call = await eventually(() => agent.held.keys().next().value);
    await agent.end(call);
  }
  for (const id of ids) expect((await outcomeOf(bus, pool, id)).head).toMatchObject({ status: "completed" });
  await queueIsEmpty(pool);
  for (const call of running) {
    expect([...agent.given].filter((given) => given.startsWith(`${call}#`))).toEqual([`${call}#1`]);
  }
});

it("survives a crash of nats-server with calls in the queue, and goes on as the same leader", async () => {
  const pool = await startPool();
  await accept(bus, pool, "before");
  await control(pool, { op: "program.start", program_id: "before" });
  failures.length = 0;
  await nats.kill9();
  await nats.restart();
  // No answer means unknown: repeated under the same id, as every publisher does.
  await eventually(async () => {
    const { kind } = await publish(bus, pool, "after");
    return kind === "accepted" || kind === "exists" ? true : undefined;
  });
  startAgent(pool);
  for (const id of ["before", "after"]) {
    expect((await outcomeOf(bus, pool, id)).head).toMatchObject({ status: "completed" });
  }
  await queueIsEmpty(pool);
  expect(await control(pool, { op: "program.read", program_id: "before" })).toMatchObject({ ok: true });
  expect(failures).toEqual([]);
});
