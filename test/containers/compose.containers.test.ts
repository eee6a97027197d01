/**
 * `docker compose up`, as README says: it becomes healthy, answers, and goes on when any one container is killed. Calls
 * that are under way end once, with the text of an undisturbed run (S1, S2).
 */
import { CALLS_STREAM, keys, OUTCOMES_STREAM, openBus, readKeys, readPicture, subjects } from "@autellix/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, inject, test, vi } from "vitest";
import { type Outsider, obtainNatsPy, startOutsider } from "../support/outsider.ts";
import { type Answer, startCalls, TEXTS } from "./calls.ts";
import { readmeCommands } from "./readme.ts";
import { type Container, newSystem, type System } from "./system.ts";

const containers = inject("containers");
const MODEL = "tiny";
const CALLS = TEXTS;
/** A kill takes up to a second to come, in which a fast machine answers a dozen calls: it must meet some. */
const CALLS_TO_MEET = 6 * CALLS;
const REPLICAS = 3;
const FRONTENDS = 4;
const BEGIN = { timeout: 60_000, interval: 50 };
const SETTLE = { timeout: 60_000, interval: 200 };

let system: System;
let natsPy: string;
let undisturbed: string[];

beforeAll(async () => {
  if ("missing" in containers) return;
  natsPy = await obtainNatsPy();
  system = await newSystem({ ...containers, env: { AUTELLIX_POOL: MODEL } });
  try {
    await system.up();
  } catch (error) {
    throw new Error(`it did not become healthy:\n${await system.logs()}`, { cause: error });
  }
  undisturbed = (await startCalls(system.url, MODEL, CALLS).answers).map(({ text }) => text);
}, 300_000);

afterAll(async () => {
  if (system !== undefined) expect(await system.down(), "left behind").toEqual([]);
});

async function one(service: string): Promise<Container> {
  const [first] = (await system.containers(service)).filter(({ state }) => state === "running");
  if (first === undefined) throw new Error(`no container of ${service} runs`);
  return first;
}

/** The container of the scheduler that leads, by the epochs that each has logged. */
async function schedulers(): Promise<{ leader: Container; standby: Container }> {
  const both = await system.containers("scheduler");
  const epochs = await Promise.all(
    both.map(async ({ id }) => {
      const lines = (await system.docker("logs", id)).split("\n").filter((line) => line.includes('"taking over"'));
      return Math.max(0, ...lines.map((line) => (JSON.parse(line) as { epoch: number }).epoch));
    }),
  );
  const [leader, standby] = (epochs[0] ?? 0) > (epochs[1] ?? 0) ? both : both.toReversed();
  if (leader === undefined || standby === undefined) throw new Error("there are no two schedulers");
  return { leader, standby };
}

function expectUndisturbed(answers: readonly Answer[]): void {
  expect(answers.map(({ text, error, ends }) => ({ text, error, ends }))).toEqual(
    answers.map((_, index) => ({ text: undisturbed[index % TEXTS], error: undefined, ends: 1 })),
  );
}

/**
 * A client that is not ours publishes a call at one of the servers that run.
 * @returns how the call ended, and whether an answer came before.
 */
async function askByNats(natsUrl: string, callId: string): Promise<{ status: string | undefined; answered: boolean }> {
  const outsider: Outsider = startOutsider(natsUrl, natsPy);
  try {
    const inbox = await outsider.listen();
    const body = { messages: [{ role: "user", content: "Hello" }], max_tokens: 5 };
    // Refused, or not answered, while the servers elect: under the same id it cannot be accepted twice.
    await vi.waitUntil(async () => {
      const subject = subjects.call(MODEL, "default", callId);
      const ack = await outsider.publish(subject, body, { "Autellix-Reply": inbox }).catch(() => undefined);
      return ack?.seq !== undefined || ack?.error?.description.includes("per subject");
    }, SETTLE);
    const messages = await outsider.read(inbox);
    return { status: messages.at(-1)?.headers["Autellix-End"], answered: messages.length > 1 };
  } finally {
    await outsider.close();
  }
}

async function streams(natsUrl: string) {
  const bus = await openBus({ url: natsUrl, name: "containers test" });
  try {
    const found = [];
    for await (const { config, state, cluster } of bus.jsm.streams.list()) {
      const current = cluster?.replicas?.filter((replica) => replica.current).length ?? 0;
      found.push({ name: config.name, replicas: config.num_replicas, messages: state.messages, current });
    }
    return found;
  } finally {
    await bus.nc.close();
  }
}

/** Entries of the program in the process table that the pools keep. */
async function entriesOf(program: string): Promise<number> {
  const bus = await openBus({ url: system.natsUrls[0] ?? "", name: "containers test" });
  try {
    const name = keys.program("*", "*", program).split(".").at(-1);
    return (await readKeys(bus, keys.programsOfPool("*"))).filter(({ key }) => key.endsWith(`.${name}`)).length;
  } finally {
    await bus.nc.close();
  }
}

/** The queue is empty, each call has one record, and all servers have caught up. */
async function expectSettled(): Promise<void> {
  const [natsUrl = ""] = system.natsUrls;
  await expect
    .poll(async () => (await streams(natsUrl)).filter(({ current }) => current < REPLICAS - 1), SETTLE)
    .toEqual([]);
  await expect
    .poll(async () => (await streams(natsUrl)).find(({ name }) => name === CALLS_STREAM)?.messages, SETTLE)
    .toBe(0);
}

/** As the agent in the container calls it. */
async function engineOf({ id }: Container): Promise<string> {
  const engine = /"engine":"([^"]+)"/.exec(await system.docker("logs", id))?.[1];
  if (engine === undefined) throw new Error(`${id} has not said its engine's name`);
  return engine;
}

/** Calls in the batch that the leader has planned for the engine. */
async function runningOn(engine: string): Promise<number> {
  const bus = await openBus({ url: system.natsUrls[0] ?? "", name: "containers test" });
  try {
    return (await readPicture(bus, MODEL))?.engines.get(engine)?.run.length ?? 0;
  } finally {
    await bus.nc.close();
  }
}

/** Kills the container while calls run through the others. @returns the answers. */
async function killWhileRunning({ id }: Container): Promise<Answer[]> {
  const load = startCalls(system.url, MODEL, CALLS_TO_MEET);
  await vi.waitUntil(() => load.begun() >= CALLS / 3, BEGIN);
  await system.docker("kill", id);
  return await load.answers;
}

describe.skipIf("missing" in containers)("docker compose up", () => {
  // Also after a failure: two dead servers would stop everything that comes later.
  afterEach(() => system.up());

  test("all that runs is healthy", async () => {
    const all = await system.containers();
    expect(all.filter(({ service }) => service === "model").map(({ state }) => state)).toEqual(["exited"]);
    const others = all.filter(({ service }) => service !== "model");
    expect(others.filter(({ state, health }) => state !== "running" || health !== "healthy")).toEqual([]);
    const counts = Object.groupBy(others, ({ service }) => service);
    for (const service of ["scheduler", "frontend", "worker-agent"]) expect(counts[service], service).toHaveLength(2);
  });

  test("every stream, bucket and store is on three servers, which sync each write", async () => {
    const found = await streams(system.natsUrls[0] ?? "");
    expect(found.map(({ name, replicas }) => [name, replicas]).sort()).toEqual(
      [CALLS_STREAM, OUTCOMES_STREAM, "AUTELLIX_DEAD", "KV_autellix_pools", "OBJ_autellix_bodies"]
        .map((name) => [name, REPLICAS])
        .sort(),
    );
    for (const server of ["nats-0", "nats-1", "nats-2"]) {
      const said = await system.compose("exec", "-T", server, "wget", "-qO-", "http://127.0.0.1:8222/jsz");
      expect(JSON.parse(said).config, server).toMatchObject({ sync_always: true });
    }
  });

  test("no service runs as root, or with a file system that it can write to", async () => {
    for (const service of ["scheduler", "frontend", "worker-agent"]) {
      const { id } = await one(service);
      expect((await system.docker("exec", id, "id", "-u")).trim(), service).toBe("1000");
      await expect(system.docker("exec", id, "touch", "/app/x"), service).rejects.toThrow(/read-only/i);
    }
  });

  test("engines have names of their own, and room in /dev/shm for their contexts", async () => {
    const agents = await system.containers("worker-agent");
    expect(new Set(await Promise.all(agents.map(engineOf))).size).toBe(2);
    const [agent] = agents;
    const bytes = Number(
      await system.docker("exec", agent?.id ?? "", "sh", "-c", "df -B1 --output=size /dev/shm | tail -1"),
    );
    expect(bytes).toBeGreaterThan(1024 ** 3);
  });

  test("README's curl works, streamed and whole", async () => {
    const commands = await readmeCommands("With Docker");
    const curls = commands.filter((command) => command.startsWith("curl"));
    expect(curls).toHaveLength(2);
    for (const curl of curls) {
      const own = curl.replaceAll("127.0.0.1:8080", `127.0.0.1:${system.ports.AUTELLIX_PORT}`);
      const said = await system.shell(own.replaceAll("SmolLM2-135M-Instruct", MODEL));
      if (curl.includes('"stream"')) expect(said).toMatch(/^data: \{[\s\S]*data: \[DONE\]\s*$/);
      else expect(JSON.parse(said)).toMatchObject({ object: "chat.completion", choices: [{ finish_reason: /./ }] });
    }
  });

  test.each(["nats-0", "nats-1", "nats-2"])("%s is killed: calls under way go on", async (service) => {
    const answers = await killWhileRunning(await one(service));
    expectUndisturbed(answers);
    const others = system.natsUrls.filter((_, index) => service !== `nats-${index}`);
    expect(await askByNats(others[0] ?? "", `outside-${service}`)).toEqual({ status: "completed", answered: true });
    await system.up();
    await expectSettled();
  });

  test("the leading scheduler is killed: the other one leads", async () => {
    const { leader, standby } = await schedulers();
    const answers = await killWhileRunning(leader);
    expectUndisturbed(answers);
    await expect.poll(async () => (await schedulers()).leader.id, SETTLE).toBe(standby.id);
    expect(await askByNats(system.natsUrls[0] ?? "", "outside-leader")).toMatchObject({ status: "completed" });
    await system.up();
    await expectSettled();
  });

  test("the standby is killed: nobody notices", async () => {
    const { standby } = await schedulers();
    const answers = await killWhileRunning(standby);
    expectUndisturbed(answers);
    expect(answers.filter(({ attempts }) => attempts !== 1)).toEqual([]);
    await system.up();
  });

  test("a worker agent is killed: its calls go on at the other one", async () => {
    const agent = await one("worker-agent");
    const engine = await engineOf(agent);
    const load = startCalls(system.url, MODEL, CALLS_TO_MEET);
    await vi.waitUntil(async () => load.begun() > 0 && (await runningOn(engine)) > 0, BEGIN);
    await system.docker("kill", agent.id);
    const answers = await load.answers;
    expectUndisturbed(answers);
    expect(answers.some(({ attempts }) => attempts > 1)).toBe(true);
    expect(await askByNats(system.natsUrls[0] ?? "", "outside-agent")).toMatchObject({ status: "completed" });
    await system.up();
    await expectSettled();
  });

  test.each(["dashboard", "jaeger", "prometheus"])("%s is killed: nobody notices", async (service) => {
    const answers = await killWhileRunning(await one(service));
    expectUndisturbed(answers);
    expect(answers.filter(({ attempts }) => attempts !== 1)).toEqual([]);
    await system.up();
  });

  test("the proxy is killed: what was accepted is not lost, and it is back at once", async () => {
    const { id } = await one("proxy");
    const load = startCalls(system.url, MODEL, CALLS_TO_MEET);
    await vi.waitUntil(() => load.begun() > 0, BEGIN);
    await system.docker("kill", id);
    const answers = await load.answers;
    expect(answers.some(({ error }) => error !== undefined)).toBe(true);
    await system.up();
    expectUndisturbed(await startCalls(system.url, MODEL, CALLS).answers);
    await expectSettled();
  });
});

describe.skipIf("missing" in containers)("frontends behind the proxy", () => {
  let proxy: Container;

  /** Requests that each frontend has had, as the proxy counts them. */
  async function requests(): Promise<Map<string, number>> {
    // The whole page is longer than what is kept of a command's output.
    const read = "wget -qO- http://127.0.0.1:8404/metrics | grep ^haproxy_server_sessions_total";
    const said = await system.docker("exec", proxy.id, "sh", "-c", read);
    const line = /^haproxy_server_sessions_total\{proxy="ready",server="([^"]+)"\} (\d+)/gm;
    return new Map([...said.matchAll(line)].map(([, server = "", count]) => [server, Number(count)]));
  }

  /** A load, and how many frontends its calls went to. */
  async function spread(program?: string): Promise<{ answers: Answer[]; frontends: number }> {
    const before = await requests();
    const answers = await startCalls(system.url, MODEL, CALLS, program).answers;
    const after = await requests();
    const used = [...after].filter(([server, count]) => count > (before.get(server) ?? 0));
    return { answers, frontends: used.length };
  }

  test(`--scale frontend=${FRONTENDS}: the proxy finds them all`, async () => {
    await system.up("--scale", `frontend=${FRONTENDS}`);
    proxy = await one("proxy");
    // It asks Docker's name server once a second, and then whether they are ready.
    await expect.poll(async () => (await spread()).frontends, SETTLE).toBe(FRONTENDS);
  });

  test("a program whose calls go through all of them is one program", async () => {
    const program = "through-all-frontends";
    const { answers, frontends } = await spread(program);
    expect(frontends).toBe(FRONTENDS);
    expectUndisturbed(answers);
    const serviceMs = answers.reduce((sum, answer) => sum + answer.serviceMs, 0);
    // Whichever frontend is asked.
    for (let i = 0; i < FRONTENDS; i++) {
      const read = await fetch(`${system.url}/v1/programs/${program}`);
      const view = (await read.json()) as { service_ms: number };
      expect(view).toMatchObject({ id: program, calls: { waiting: 0, running: 0, ended: CALLS } });
      expect(view.service_ms).toBeGreaterThan(serviceMs * 0.99 - 1);
      expect(view.service_ms).toBeLessThan(serviceMs * 1.01 + CALLS);
    }
    expect(await entriesOf(program), "entries in the process table").toBe(1);
  });

  test("a client that goes away is a call that is cancelled, also before its first byte", async () => {
    const program = "client-goes-away";
    const leave = new AbortController();
    const messages = [{ role: "user", content: "Tell me something long." }];
    // A thousand numbers take seconds; without them the answer's length, and so its time, are the model's whim.
    const numbers = { type: "array", items: { type: "integer", enum: [1] }, minItems: 1_000 };
    const schema = { type: "object", properties: { numbers }, required: ["numbers"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "long", strict: true, schema } };
    // With others before it, it has no answer yet when its client goes away.
    const load = startCalls(system.url, MODEL, CALLS);
    const asking = fetch(`${system.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", "autellix-program-id": program },
      body: JSON.stringify({ model: MODEL, messages, response_format }),
      signal: leave.signal,
    });
    asking.catch(() => {});
    const view = async () => {
      const read = await fetch(`${system.url}/v1/programs/${program}`);
      return (await read.json()) as { calls?: { waiting: number; running: number } };
    };
    await vi.waitUntil(async () => {
      const { waiting = 0, running = 0 } = (await view()).calls ?? {};
      return waiting + running === 1;
    }, BEGIN);
    leave.abort();
    await expect(asking).rejects.toThrow();
    await expect.poll(async () => (await view()).calls, SETTLE).toMatchObject({ waiting: 0, running: 0 });
    const logs = await Promise.all((await system.containers("frontend")).map(({ id }) => system.docker("logs", id)));
    const ends = logs
      .join("\n")
      .split("\n")
      .filter((line) => line.includes(`"program":"${program}"`));
    expect(
      ends.filter((line) => line.includes('"status":"cancelled"')),
      ends.join("\n"),
    ).toHaveLength(1);
    expectUndisturbed(await load.answers);
  });

  test("one is killed: its own connections end, and no other", async () => {
    const { id } = await one("frontend");
    const load = startCalls(system.url, MODEL, CALLS_TO_MEET);
    // The frontend with the fewest gets the next, so each has a fourth; those that wait for an engine count, too.
    await vi.waitUntil(() => load.begun() > 0, BEGIN);
    await system.docker("kill", id);
    const answers = await load.answers;
    const broken = answers.filter(({ error }) => error !== undefined);
    expect(broken.length).toBeGreaterThan(0);
    expect(broken.length).toBeLessThanOrEqual(CALLS_TO_MEET / FRONTENDS);
    for (const { error, text, ends, index } of answers)
      if (error === undefined) expect({ text, ends }).toEqual({ text: undisturbed[index % CALLS], ends: 1 });
    // Nobody notices who comes later.
    expectUndisturbed(await startCalls(system.url, MODEL, CALLS).answers);
    await expectSettled();
  });
});
