/** What watchers see of a real pool, against what its leader and its agents say. */
import {
  type Bus,
  keys,
  openBus,
  type PoolPicture,
  PoolsWatch,
  PoolWatch,
  readKeys,
  readPicture,
  send,
  subjects,
} from "@autellix/protocol";
import { createLogger } from "@autellix/runtime";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { SchedulerService } from "../src/adapter.ts";
import { parseSaved } from "../src/take-over.ts";
import { machineConfig } from "./bench.ts";
import { accept, eventually, programField, TestAgent } from "./test-agent.ts";

let nats: TestNats;
let bus: Bus;
const stops: (() => void | Promise<void>)[] = [];

beforeAll(async () => {
  nats = await startTestNats();
  bus = await openBus({ url: nats.url, name: "test" });
});
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});
afterAll(async () => {
  await bus?.nc.close();
  await nats?.stop();
});

async function startScheduler(pool: string, leader: string): Promise<{ bus: Bus }> {
  const own = await openBus({ url: nats.url, name: `scheduler ${leader}` });
  const service = new SchedulerService({
    bus: own,
    machine: { ...machineConfig, pool, leader, queuedCallsMax: 10_000 },
    leadership: { leader, leaseMs: 20_000, leaseMarginMs: 2_000, standbyMs: 1_000 },
    replicas: 1,
    log: createLogger({ service: "scheduler", level: "silent" }),
    // The one that is cut off ends itself: another leads.
    fail: () => {},
  });
  await service.start();
  stops.push(async () => {
    await service.stop();
    await own.nc.close();
  });
  return { bus: own };
}

function startAgent(pool: string, name: string): TestAgent {
  const agent = new TestAgent(bus, pool, `${pool}-${name}`, { endsAtOnce: false, batchCallsMax: 3 });
  stops.push(() => agent.stop());
  return agent;
}

/** Numbers from a seed, which a failure shows. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Without what moves with the clock, and what the report of the next moment changes. */
function shown(picture: PoolPicture): unknown {
  const calls = [...picture.calls.values()].map(({ call, program, state, level, engine, attempt }) => ({
    call,
    program,
    state,
    level,
    engine,
    attempt,
  }));
  return {
    calls: calls.sort((a, b) => (a.call < b.call ? -1 : 1)),
    programs: [...picture.programs.values()].sort((a, b) => (a.program < b.program ? -1 : 1)),
    engines: [...picture.engines.values()]
      .map(({ engine, run }) => ({ engine, run }))
      .sort((a, b) => (a.engine < b.engine ? -1 : 1)),
    epoch: picture.pool?.epoch,
  };
}

/** The watcher's picture, as soon as it shows what a fresh snapshot shows. */
async function settled(watch: PoolWatch, pool: string): Promise<PoolPicture> {
  let last: [unknown, unknown] = [undefined, undefined];
  const untilMs = performance.now() + 20_000;
  for (;;) {
    const fresh = await readPicture(bus, pool);
    if (fresh && watch.picture) {
      last = [shown(watch.picture), shown(fresh)];
      if (JSON.stringify(last[0]) === JSON.stringify(last[1])) return watch.picture;
    }
    if (performance.now() > untilMs) expect(last[0]).toEqual(last[1]);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Ended calls of all programs, as a next leader would read them. */
async function savedEnds(pool: string): Promise<number> {
  const entries = await readKeys(bus, keys.programsOfPool(pool));
  return entries.reduce((sum, { bytes }) => sum + (parseSaved(bytes)?.endedCalls ?? 0), 0);
}

it("is after any load what a fresh snapshot and the agents say, also when the leader was killed", async () => {
  const pool = "viewed";
  const first = await startScheduler(pool, "first");
  const agents = [startAgent(pool, "e1"), startAgent(pool, "e2")];
  const watch = new PoolWatch(bus, pool);
  stops.push(() => watch.stop());
  await eventually(() => watch.picture);
  const seed = Date.now() % 100_000;
  const draw = random(seed);
  let [calls, ended] = [0, 0];
  const load = async (steps: number) => {
    for (let step = 0; step < steps; step++) {
      const held = agents.flatMap((agent) => [...agent.held.keys()].map((call) => ({ agent, call })));
      const victim = held[Math.floor(draw() * held.length)];
      if (draw() < 0.75 || !victim)
        await accept(bus, pool, `c${++calls}`, programField(`prog-${Math.floor(draw() * 9)}`));
      else {
        await victim.agent.end(victim.call);
        ended++;
      }
    }
  };
  await load(120);
  const before = await settled(watch, pool);
  expect(before.calls.size, `seed ${seed}`).toBeGreaterThan(6);

  // What a leader has not saved yet when it dies is lost: how many calls of a program have ended, among others.
  await eventually(async () => ((await savedEnds(pool)) === ended ? true : undefined));
  await first.bus.nc.close();
  await startScheduler(pool, "second");
  const epoch = before.pool?.epoch ?? 0;
  await eventually(() => ((watch.picture?.pool?.epoch ?? 0) > epoch ? true : undefined));
  await load(60);
  let picture = await settled(watch, pool);
  // A plan that an agent has just received is in no report yet.
  const running = async () => {
    picture = await settled(watch, pool);
    const calls = [...picture.calls.values()].filter(({ state }) => state === "running").map(({ call }) => call);
    const held = agents.flatMap((agent) => [...agent.held.keys()]);
    return { running: calls.sort().join(), held: held.sort().join() };
  };
  await expect
    .poll(running, { timeout: 20_000, message: `seed ${seed}` })
    .toSatisfy(({ running, held }: { running: string; held: string }) => running === held);
  for (const agent of agents)
    for (const call of agent.held.keys()) expect(picture.calls.get(call)?.engine).toBe(agent.engine);
  const inBatches = [...picture.engines.values()].reduce((sum, { run }) => sum + run.length, 0);
  const { waitingByLevel = [], queuedCalls } = picture.pool ?? {};
  expect(queuedCalls).toBe(picture.calls.size);
  expect(waitingByLevel.reduce((sum, n) => sum + n, 0)).toBe(picture.calls.size - inBatches);
  const programs = [...picture.programs.values()];
  expect(programs.reduce((sum, p) => sum + p.calls.ended + p.calls.waiting + p.calls.running, 0)).toBe(calls);
});

it("reads again after a gap, and knows when the leader is gone and when it is back", async () => {
  const pool = "gap";
  await startScheduler(pool, "first");
  let snapshots = 0;
  const leaders: boolean[] = [];
  const watch = new PoolWatch(bus, pool, {
    onSnapshot: () => snapshots++,
    onLeader: (isThere) => leaders.push(isThere),
  });
  stops.push(() => watch.stop());
  const picture = await eventually(() => watch.picture);
  // A message of somebody who skipped some.
  send(bus, subjects.events(pool), {
    pool: picture.pool,
    number: 1_000,
    atMs: 1,
    programs: [],
    calls: [],
    engines: [],
    gone: { programs: [], calls: [], engines: [] },
  });
  await eventually(() => (snapshots >= 2 ? true : undefined));
  expect(watch.picture?.number).toBeLessThan(1_000);
  await stops.splice(0, 1)[0]?.();
  await eventually(() => (leaders.at(-1) === false ? true : undefined));
  await startScheduler(pool, "second");
  await eventually(() => (leaders.at(-1) === true ? true : undefined));
  expect(leaders).toEqual([true, false, true]);
});

it("finds the pools that there are, and those that come", async () => {
  await startScheduler("one", "leader");
  const watch = new PoolsWatch(bus);
  stops.push(() => watch.stop());
  await eventually(() => watch.pools.get("one")?.picture);
  await startScheduler("two", "leader");
  await eventually(() => watch.pools.get("two")?.picture);
});

it("answers outsiders in JSON, and tells them what is wrong with a question", async () => {
  await startScheduler("json", "leader");
  const watch = new PoolWatch(bus, "json");
  stops.push(() => watch.stop());
  await eventually(() => watch.picture);
  const ask = async (question: unknown) =>
    (await bus.nc.request(subjects.view("json"), JSON.stringify(question))).json();
  expect(await ask({ op: "page", what: "programs" })).toMatchObject({ pool: { pool: "json" }, programs: [] });
  expect(await ask({ op: "page", what: "cats" })).toMatchObject({ ok: false, error: { code: "invalid_request" } });
});
