import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { openHttpEngine } from "@autellix/engines/http";
import type { ChatCompletion, PlanCall } from "@autellix/protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ConformanceServer } from "../../../libs/engines/test/conformance-server/index.ts";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { chat, eventually, openStage, outcomeOf, POOL, type Stage, TENANT } from "./support/stage.ts";
import { random } from "./support/world.ts";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const SLOTS = 2;

let nats: TestNats;
beforeAll(async () => {
  nats = await startTestNats();
});
afterAll(() => nats?.stop());

let stage: Stage;
let server: ConformanceServer;
const children: ChildProcess[] = [];
beforeEach(async () => {
  stage = await openStage(nats.url);
  server = await new ConformanceServer({
    dialect: "vllm",
    slots: SLOTS,
    contextTokensMax: 2_048,
    tokenMs: 3,
    apiKey: "secret-key",
  }).start();
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }
  await stage.close();
  await server.stop();
});

let serial = 0;
const fresh = (name: string) => `http-${name}-${++serial}`;
const held = ({ call, attempt }: PlanCall) => ({ call, attempt });

const open = () =>
  openHttpEngine({ url: server.url, slots: SLOTS, apiKey: "secret-key", limits: { stepMs: 10, pollMs: 20 } });

async function answerOf({ call }: PlanCall): Promise<ChatCompletion> {
  return outcomeOf(await stage.scheduler.ended(call.slice(TENANT.length + 1))).response as ChatCompletion;
}

describe("an agent in front of a server that runs already", () => {
  it("never gives it more calls than its slots, and takes them away and gives them back as plans say", async () => {
    const body = (i: number) => chat(`question ${i}`, { max_tokens: 80, temperature: 0 });
    const id = fresh("e");
    const calls = await Promise.all(Array.from({ length: 6 }, (_, i) => stage.call(fresh("c"), body(i))));
    const engine = await open();
    await stage.agent(id, engine);
    await stage.scheduler.plan(id, { run: calls.slice(0, SLOTS), keep: calls.slice(SLOTS) });
    const draw = random(3);
    for (let round = 0; round < 12; round++) {
      const steps = engine.counters().steps + 3;
      await eventually(() => (engine.counters().steps >= steps ? true : undefined));
      const order = calls.map((call) => ({ call, rank: draw() })).sort((a, b) => a.rank - b.rank);
      const shuffled = order.map(({ call }) => held(call));
      await stage.scheduler.plan(id, { run: shuffled.slice(0, SLOTS), keep: shuffled.slice(SLOTS) });
    }
    for (const { call } of calls) expect((await stage.frontend.ended(call)).status).toBe("completed");
    expect(engine.counters().batchMax).toBe(SLOTS);
    expect(server.requests.length).toBeGreaterThan(calls.length);
    const again = await Promise.all(calls.map((_, i) => stage.call(fresh("c"), body(i))));
    await stage.scheduler.plan(id, { run: again.slice(0, SLOTS), keep: again.slice(SLOTS) });
    for (const [i, entry] of again.entries()) {
      await stage.frontend.ended(entry.call);
      const moved = calls[i];
      if (moved === undefined) throw new Error("no such call");
      expect(stage.frontend.text(moved.call)).toBe(stage.frontend.text(entry.call));
      expect((await answerOf(moved)).choices[0].message.content).toBe(stage.frontend.text(entry.call));
    }
  }, 60_000);

  it("loses no call and answers none twice when the server is started again", async () => {
    const id = fresh("e");
    const engine = await open();
    const agent = await stage.agent(id, engine, { engineDownMsMax: 60_000 });
    const calls = await Promise.all(
      Array.from({ length: 4 }, (_, i) =>
        stage.call(fresh("c"), chat(`again ${i}`, { max_tokens: 100, temperature: 0 })),
      ),
    );
    await stage.scheduler.plan(id, { run: calls.slice(0, SLOTS), reserve: calls.slice(SLOTS) });
    for (let round = 0; round < 3; round++) {
      const tokens = engine.counters().tokens + 20;
      await eventually(() => (engine.counters().tokens >= tokens ? true : undefined));
      await server.stop();
      await eventually(() => (engine.health().state === "down" ? true : undefined));
      await server.start();
    }
    for (const entry of calls) {
      expect((await stage.frontend.ended(entry.call)).status).toBe("completed");
      expect((await answerOf(entry)).choices[0].message.content).toBe(stage.frontend.text(entry.call));
      expect((await answerOf(entry)).autellix.attempts).toBe(1);
    }
    expect(agent.incarnation).toBe((await stage.scheduler.report(id, () => true)).incarnation);
  }, 60_000);

  it("gives its calls to others when the server stays away", async () => {
    const id = fresh("e");
    await stage.agent(id, await open(), { engineDownMsMax: 200 });
    const entry = await stage.call(fresh("c"), chat("x", { max_tokens: 1_000, temperature: 0 }));
    await stage.scheduler.plan(id, { run: [entry] });
    await eventually(() => stage.frontend.items.get(entry.call));
    await server.stop();
    await eventually(() => stage.scheduler.messages.find((m) => m.kind === "exit" && m.engine === id));
    const exits = stage.scheduler.messages.length;
    await server.start();
    await eventually(() => stage.scheduler.messages.slice(exits).find((m) => m.kind === "report" && m.engine === id));
    expect(await stage.scheduler.outcome(entry.call.slice(TENANT.length + 1))).toBeUndefined();
  });

  it("joins its pool anew when the server comes back as another one, and its calls go to others", async () => {
    const id = fresh("e");
    const engine = await open();
    const before = await stage.agent(id, engine, { engineDownMsMax: 60_000 });
    const { incarnation } = before;
    const entry = await stage.call(fresh("c"), chat("x", { max_tokens: 1_000, temperature: 0 }));
    await stage.scheduler.plan(id, { run: [entry] });
    await eventually(() => stage.frontend.items.get(entry.call));
    await server.stop();
    await eventually(() => (engine.health().state === "down" ? true : undefined));
    const { contextTokensMax } = server.options;
    try {
      server.options.contextTokensMax = contextTokensMax + 512;
      await server.start();
      await eventually(() => stage.scheduler.messages.find((m) => m.kind === "exit" && m.engine === id));
      const joined = await eventually(() =>
        stage.scheduler.messages.find(
          (m) => m.kind === "report" && m.engine === id && m.info && m.incarnation !== incarnation,
        ),
      );
      expect(joined).toMatchObject({ info: { contextTokensMax: contextTokensMax + 512 }, calls: [] });
    } finally {
      server.options.contextTokensMax = contextTokensMax;
    }
    expect(await stage.scheduler.outcome(entry.call.slice(TENANT.length + 1))).toBeUndefined();
  });
});

describe("the process of an agent for a server", () => {
  function agent(engineId: string, env: Record<string, string>) {
    const child = spawn(process.execPath, [MAIN], {
      env: {
        PATH: process.env["PATH"],
        AUTELLIX_NATS_URL: nats.url,
        AUTELLIX_POOL: POOL,
        AUTELLIX_ENGINE_ID: engineId,
        AUTELLIX_ENGINE: "http",
        ...env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    children.push(child);
    const said: string[] = [];
    child.stdout.on("data", (bytes) => said.push(String(bytes)));
    child.stderr.on("data", (bytes) => said.push(String(bytes)));
    const exited = once(child, "exit").then(([code]) => code as number | null);
    return { child, exited, said: () => said.join("") };
  }

  it("finds out what the server is, takes its key from a variable, and offers its model", async () => {
    const id = fresh("e");
    const { said } = agent(id, {
      AUTELLIX_ENGINE_URL: `${server.url}/v1`,
      AUTELLIX_SLOTS: String(SLOTS),
      AUTELLIX_API_KEY_ENV: "SERVER_KEY",
      SERVER_KEY: "secret-key",
    });
    const { info } = await stage.scheduler.report(id, (r) => r.info !== undefined);
    expect(info).toMatchObject({ kind: "http", models: ["conformance"], batchCallsMax: SLOTS, forwards: true });
    const entry = await stage.call(fresh("c"), chat("hello", { max_tokens: 20, temperature: 0 }));
    await stage.scheduler.plan(id, { run: [entry] });
    expect((await stage.frontend.ended(entry.call)).status).toBe("completed");
    expect(said()).not.toContain("secret-key");
  });

  it("gives up a stream that stalls for as long as it is told", async () => {
    const id = fresh("e");
    const { said } = agent(id, {
      AUTELLIX_ENGINE_URL: server.url,
      AUTELLIX_SLOTS: String(SLOTS),
      AUTELLIX_API_KEY_ENV: "SERVER_KEY",
      SERVER_KEY: "secret-key",
      AUTELLIX_STALL_MS_MAX: "1000",
    });
    await stage.scheduler.report(id, (r) => r.info !== undefined);
    server.mischief = { after: { tokens: 3, times: 1, what: "stall" } };
    const entry = await stage.call(fresh("c"), chat("hello", { max_tokens: 20, temperature: 0 }));
    await stage.scheduler.plan(id, { run: [entry] });
    expect((await stage.frontend.ended(entry.call)).status, said()).toBe("completed");
    expect(server.mischief.after?.times).toBe(0);
  });

  it.each<[string, Record<string, string>, number, string]>([
    ["its URL", {}, 2, "AUTELLIX_ENGINE_URL must be the URL of a server"],
    [
      "the key that it names",
      { AUTELLIX_ENGINE_URL: "http://127.0.0.1:1", AUTELLIX_API_KEY_ENV: "NOT_THERE" },
      1,
      "AUTELLIX_API_KEY_ENV names NOT_THERE, which is not set",
    ],
    [
      "the certificates that it names",
      { AUTELLIX_ENGINE_URL: "https://127.0.0.1:1", AUTELLIX_CA: "/missing.pem" },
      1,
      "AUTELLIX_CA: /missing.pem cannot be read",
    ],
    [
      "a certificate in the file that it names",
      { AUTELLIX_ENGINE_URL: "https://127.0.0.1:1", AUTELLIX_CA: "/etc/hostname" },
      1,
      "AUTELLIX_CA: /etc/hostname holds no certificate (PEM)",
    ],
  ])("says in one line that it lacks %s", async (_what, env, code, message) => {
    const { exited, said } = agent(fresh("e"), env);
    expect(await exited).toBe(code);
    expect(said()).toContain(message);
  });

  it("says in one line that the server does not say its slots", async () => {
    const env = { AUTELLIX_ENGINE_URL: server.url, AUTELLIX_API_KEY_ENV: "SERVER_KEY", SERVER_KEY: "secret-key" };
    const { exited, said } = agent(fresh("e"), env);
    expect(await exited).toBe(1);
    expect(said()).toMatch(/slots/);
  });
});
