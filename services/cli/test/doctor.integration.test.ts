/** Each fault is planted for real, and doctor names it: in one sentence that says what to do, with exit code 1. */
import { mkdtemp, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeTinyModel } from "@autellix/engines/tiny-model";
import { CALLS_STREAM, ensurePool, OUTCOMES_STREAM, openBus, publishCall } from "@autellix/protocol";
import { describe, expect, it, onTestFinished } from "vitest";
import { ConformanceServer } from "../../../libs/engines/test/conformance-server/index.ts";
import { isMissing } from "../../../test/engines/need.ts";
import { obtainFaketime, obtainOldNats } from "../../../test/equipment/old-parts.ts";
import { freePort } from "../../../test/support/nats.ts";
import {
  cli,
  type Diagnosis,
  diagnose,
  diagnosed,
  eventually,
  JETSTREAM,
  type RigNats,
  simulated,
  startNats,
  startService,
} from "./observe-rig.ts";

const pool = { AUTELLIX_POOL: "sim" };
/** As docs/OPERATIONS.md has it. */
const LOOKER = {
  publish: [
    ...["autellix.pools.*.view", "autellix.facts", "$SYS.REQ.ACCOUNT.PING.STATZ", "$JS.API.INFO"],
    ...[
      "$JS.API.STREAM.INFO.*",
      "$JS.API.CONSUMER.CREATE.KV_autellix_pools",
      "$JS.API.CONSUMER.*.KV_autellix_pools.>",
      "$JS.API.CONSUMER.MSG.NEXT.KV_autellix_pools.*",
    ],
    "$JS.API.DIRECT.GET.AUTELLIX_OUTCOMES.>",
  ],
  subscribe: ["autellix.pools.*.events", "_INBOX.>"],
};
const frontend = (port: number) => ({ AUTELLIX_PORT: String(port) });
const isHealthy = ({ ok }: Diagnosis) => ok;
/** The fault, and nothing else. */
const names = (check: string) => (seen: Diagnosis) => {
  const wrong = seen.findings.filter(({ level }) => level === "wrong");
  return wrong.length === 1 && wrong[0]?.check === check;
};

const oldNats = await obtainOldNats(process.env);
const faketime = await obtainFaketime(process.env);
for (const part of [oldNats, faketime]) {
  if (!isMissing(part)) continue;
  if (process.env.CI) throw new Error(part.missing);
  process.stdout.write(`skipped: ${part.missing}\n`);
}

/** A sentence: one, for people, without a path of this repository or a stack. */
function expectSentence(text: string | undefined): void {
  expect(text).toMatch(/^\S[^\n]{30,420}\.$/);
  expect(text).toMatch(/: /);
}

/** A small whole system, and what its processes are. */
async function startSystem(nats: RigNats, env: Readonly<Record<string, string>> = {}) {
  const scheduler = startService("scheduler", nats.url, { ...pool, ...env });
  const agent = startService("worker-agent", nats.url, { ...simulated("e1"), ...env });
  const http = startService("frontend", nats.url, { ...frontend(await freePort()), ...env });
  return { scheduler, agent, http };
}

describe("a system", () => {
  it("that works is told so, with exit code 0; what loses its leader, its engines or its frontend is named", async () => {
    const nats = await startNats(JETSTREAM);
    const { scheduler, agent, http } = await startSystem(nats);
    const healthy = await diagnosed(nats.url, isHealthy);
    expect(healthy.code).toBe(0);
    // The default limit of nats-server is below that of frontends: that works, and is said.
    expect(healthy.findings.filter(({ level }) => level === "note").map(({ check }) => check)).toEqual([
      "nats.payload",
    ]);
    expect(healthy.findings.find(({ check }) => check === "nats.payload")?.text).toMatch(
      /up to 1 MiB.*bodies up to 8 MiB.*object store/,
    );
    const text = await cli("doctor", "--nats", nats.url);
    expect(text).toMatchObject({ code: 0, err: "" });
    expect(text.out).toMatch(/^ok {5}nats-server 2\.\d+\.\d+ at nats:/);
    expect(text.out).toContain("Nothing is wrong.\n");

    await http.stop();
    const faceless = await diagnosed(nats.url, names("frontend.none"));
    expectSentence(faceless.wrong[0]);
    startService("frontend", nats.url, frontend(await freePort()));
    await diagnosed(nats.url, isHealthy);

    const bus = await openBus({ url: nats.url, name: "test" });
    onTestFinished(() => bus.nc.close());
    await scheduler.stop();
    await publishCall(bus, {
      address: { pool: "sim", tenant: "default", callId: "waits" },
      body: Buffer.from("{}"),
      fields: {},
    });
    const headless = await diagnosed(nats.url, names("pool.leader"));
    expect(headless).toMatchObject({ code: 1, ok: false });
    expect(headless.wrong[0]).toBe(
      "Pool sim has no leader, so nobody plans its calls and its 1 calls wait: start a scheduler with AUTELLIX_POOL=sim.",
    );
    expect(await cli("ps", "--nats", nats.url)).toMatchObject({
      code: 1,
      err: "autellix: no leader answers for sim; ask: autellix doctor\n",
    });

    startService("scheduler", nats.url, pool);
    await agent.stop();
    expectSentence((await diagnosed(nats.url, names("pool.engines"))).wrong[0]);
  });

  it("is looked at by a user who may do nothing else", async () => {
    const mayPublish = LOOKER.publish.map((subject) => JSON.stringify(subject)).join(", ");
    const maySubscribe = LOOKER.subscribe.map((subject) => JSON.stringify(subject)).join(", ");
    const users = `authorization { users: [ { user: all, password: a }, { user: look, password: l, permissions: { publish: [${mayPublish}], subscribe: [${maySubscribe}] } } ] }`;
    const nats = await startNats(`${JETSTREAM}\n${users}`);
    const as = (who: string) => nats.url.replace("//", `//${who}@`);
    await startSystem({ ...nats, url: as("all:a") });
    await diagnosed(as("look:l"), isHealthy);
    const bus = await openBus({ url: as("all:a"), name: "test" });
    onTestFinished(() => bus.nc.close());
    const address = { pool: "sim", tenant: "default", callId: "seen" };
    const body = Buffer.from('{"messages":[{"role":"user","content":"x"}],"max_tokens":3}');
    await publishCall(bus, { address, body, fields: { "Autellix-Program-Id": "tea" } });
    const traced = await eventually(async () => {
      const seen = await cli("trace", "tea", "--nats", as("look:l"));
      return seen.out.includes("1 call;") ? seen : undefined;
    });
    expect(traced).toMatchObject({ code: 0, err: "" });
    expect((await cli("programs", "--nats", as("look:l"))).out).toMatch(/default +tea +idle/);
    expect((await diagnose(as("look:wrong"))).wrong[0]).toMatch(/refuses the credentials/);
  });

  it("with two agents of one engine id", async () => {
    const nats = await startNats(JETSTREAM);
    await startSystem(nats);
    startService("worker-agent", nats.url, simulated("e1"));
    const { wrong } = await diagnosed(nats.url, ({ findings }) => findings.some(({ check }) => check === "engine.id"));
    const text = wrong.find((one) => one.includes("call themselves"));
    expect(text).toMatch(
      /^2 worker agents call themselves e1 \(process \d+ on \S+ and process \d+ on \S+\).*AUTELLIX_ENGINE_ID\.$/,
    );
    expectSentence(text);
  });

  it("with more slots than the server of its engine has", async () => {
    const nats = await startNats(JETSTREAM);
    const server = await new ConformanceServer({ dialect: "llama-server", slots: 4, contextTokensMax: 2_048 }).start();
    onTestFinished(() => server.stop());
    const agent = { ...pool, AUTELLIX_ENGINE: "http", AUTELLIX_ENGINE_URL: server.url, AUTELLIX_ENGINE_ID: "server" };
    startService("scheduler", nats.url, pool);
    startService("frontend", nats.url, frontend(await freePort()));
    const first = startService("worker-agent", nats.url, { ...agent, AUTELLIX_SLOTS: "4" });
    await diagnosed(nats.url, isHealthy);
    await first.stop();
    startService("worker-agent", nats.url, { ...agent, AUTELLIX_SLOTS: "16" });
    const { wrong } = await diagnosed(nats.url, names("engine.slots"));
    expect(wrong[0]).toMatch(
      /^Engine server has 16 slots, but its server computes only 4 requests together.*--slots \(AUTELLIX_SLOTS\) to 4/,
    );
    expectSentence(wrong[0]);
  });

  it("with less host memory than the host tier of an engine wants", async () => {
    const nats = await startNats(JETSTREAM);
    const folder = await mkdtemp(join(tmpdir(), "autellix-doctor-model-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const model = join(folder, "tiny.gguf");
    await writeTinyModel(model, { seed: 1 });
    const { bsize, blocks } = await statfs("/dev/shm");
    startService("scheduler", nats.url, pool);
    startService("frontend", nats.url, frontend(await freePort()));
    startService("worker-agent", nats.url, {
      ...simulated("e1"),
      AUTELLIX_ENGINE: "llama",
      AUTELLIX_MODEL_FILE: model,
      AUTELLIX_HOST_KV_BYTES_MAX: String(blocks * bsize + 1024 ** 3),
    });
    const { wrong } = await diagnosed(nats.url, names("engine.memory"));
    expect(wrong[0]).toMatch(
      /^\/dev\/shm has .*less than the host tier of engine e1 wants.*shm_size.*AUTELLIX_HOST_KV_BYTES_MAX/,
    );
    expectSentence(wrong[0]);
  });

  it.skipIf(isMissing(faketime))("with clocks apart", async () => {
    if (isMissing(faketime)) return;
    const nats = await startNats(JETSTREAM);
    const { http } = await startSystem(nats);
    await diagnosed(nats.url, isHealthy);
    await http.stop();
    const shifted = {
      LD_PRELOAD: faketime.library,
      FAKETIME: "+61s",
      DONT_FAKE_MONOTONIC: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
    };
    startService("frontend", nats.url, { ...frontend(await freePort()), ...shifted });
    const { wrong } = await diagnosed(nats.url, names("clocks"));
    expect(wrong[0]).toMatch(
      /^The clock of host \S+ \(frontend \(process \d+\)\) is 6[01]\.\d s ahead of that of nats-server .*NTP\.$/,
    );
    expectSentence(wrong[0]);
  });
});

describe("streams", () => {
  it("with settings that break a guarantee, and one that is missing", async () => {
    const nats = await startNats(JETSTREAM);
    const bus = await openBus({ url: nats.url, name: "test" });
    onTestFinished(() => bus.nc.close());
    expect((await diagnose(nats.url)).findings.map(({ check }) => check)).toContain("streams.missing");
    await ensurePool(bus, "sim");
    const { config } = await bus.jsm.streams.info(CALLS_STREAM);
    await bus.jsm.streams.delete(CALLS_STREAM);
    await bus.jsm.streams.add({
      ...config,
      retention: "limits",
      discard_new_per_subject: false,
      subjects: ["autellix.calls.other.*.*"],
    } as typeof config);
    const outcomes = (await bus.jsm.streams.info(OUTCOMES_STREAM)).config;
    await bus.jsm.streams.update(OUTCOMES_STREAM, { ...outcomes, discard: "old", max_age: 600 * 1e9 } as typeof config);
    await bus.jsm.streams.delete("AUTELLIX_DEAD");
    const dead = (await diagnose(nats.url)).wrong.find((text) => text.includes("AUTELLIX_DEAD"));
    expect(dead).toBe("The stream AUTELLIX_DEAD is missing: restart a scheduler, it makes it anew.");
    await startSystem(nats);
    const { wrong } = await diagnosed(
      nats.url,
      ({ wrong: texts }) => texts.length === 4 && texts.every((text) => text.includes("stream")),
    );
    for (const text of wrong) expectSentence(text);
    expect(wrong.join("\n")).toMatch(/AUTELLIX_CALLS has retention limits instead of workqueue/);
    expect(wrong.join("\n")).toMatch(/AUTELLIX_CALLS has discard_new_per_subject false instead of true/);
    expect(wrong.join("\n")).toMatch(/AUTELLIX_OUTCOMES has discard old instead of new/);
    expect(wrong.join("\n")).toMatch(/AUTELLIX_OUTCOMES keeps records for 10 min only/);
  });
});

describe("nats-server", () => {
  it("that is not there", async () => {
    const { code, wrong } = await diagnose(`nats://127.0.0.1:${await freePort()}`);
    expect([code, wrong.length]).toEqual([1, 1]);
    expectSentence(wrong[0]);
  });

  it("without JetStream", async () => {
    const nats = await startNats("");
    const { code, wrong } = await diagnosed(nats.url, names("nats.jetstream"));
    expect(code).toBe(1);
    expect(wrong[0]).toMatch(/^nats-server at \S+ has no JetStream.*-js/);
    expectSentence(wrong[0]);
  });

  it("that takes only small messages", async () => {
    const nats = await startNats(`${JETSTREAM}\nmax_payload: 64KB`);
    const { wrong } = await diagnosed(nats.url, names("nats.payload"));
    expect(wrong[0]).toMatch(/up to 64 KiB only.*set max_payload to \d+ or more/);
    expectSentence(wrong[0]);
  });

  it.skipIf(isMissing(oldNats))("that is too old", async () => {
    if (isMissing(oldNats)) return;
    const nats = await startNats(JETSTREAM, { bin: oldNats.bin });
    const { wrong } = await diagnosed(nats.url, names("nats.version"));
    expect(wrong[0]).toContain(
      `is ${oldNats.version}, which can bring ended calls back after a crash: install 2.11.0 or newer`,
    );
    expectSentence(wrong[0]);
  });

  it("three of them with three replicas that do not write through, and then that do", async () => {
    const start = async (sync: string) => {
      const ports = await Promise.all(Array.from({ length: 9 }, () => freePort()));
      const routes = ports
        .slice(3, 6)
        .map((port) => `"nats://127.0.0.1:${port}"`)
        .join(", ");
      const servers = await Promise.all(
        [0, 1, 2].map((n) =>
          startNats(
            `server_name: n${n}\nhttp: "127.0.0.1:${ports[6 + n]}"\njetstream { store_dir: JETSTREAM${sync} }\ncluster { name: c, listen: "127.0.0.1:${ports[3 + n]}", routes: [${routes}] }`,
            { port: ports[n] as number },
          ),
        ),
      );
      const url = servers.map((server) => server.url).join(",");
      const bus = await openBus({ url, name: "test" });
      // The cluster elects; until then streams are refused.
      for (;;) {
        const made = await ensurePool(bus, "sim", { replicas: 3 }).then(
          () => true,
          () => false,
        );
        if (made) break;
      }
      await bus.nc.close();
      return { url, servers, monitors: ports.slice(6).flatMap((port) => ["--monitor", `http://127.0.0.1:${port}`]) };
    };
    const replicas = { AUTELLIX_REPLICAS: "3" };
    const lazy = await start("");
    await startSystem({ ...(lazy.servers[0] as RigNats), url: lazy.url }, replicas);
    const seen = await diagnosed(lazy.url, names("nats.sync"), ...lazy.monitors);
    expect(seen.wrong[0]).toMatch(/3 replicas, but nats-server n0 \(every 120 s\), n1 .*sync_interval: always/);
    expectSentence(seen.wrong[0]);
    const unseen = await diagnosed(lazy.url, names("nats.sync"));
    expect(unseen.wrong[0]).toContain("cannot be seen: name its monitoring port with --monitor");
    for (const server of lazy.servers) await server.stop();

    const eager = await start(", sync_interval: always");
    await startSystem({ ...(eager.servers[0] as RigNats), url: eager.url }, replicas);
    await diagnosed(eager.url, isHealthy, ...eager.monitors);
    await eager.servers[2]?.stop();
    const less = await diagnosed(
      eager.url,
      ({ findings }) => findings.some(({ check }) => check === "streams.replicas"),
      ...eager.monitors,
    );
    expect(less.wrong.join(" ")).toContain("3 replicas, but only 2 nats-servers answer");
    await eager.servers[1]?.stop();
    const alone = await diagnosed(eager.url, names("nats.jetstream"));
    expect(alone.wrong[0]).toMatch(/does not answer .*more than half of its servers/);
  });
});
