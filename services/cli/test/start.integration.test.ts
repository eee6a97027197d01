import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { openBus } from "@autellix/protocol";
import { describe, expect, it, vi } from "vitest";
import { freshPlace, isFree, isRunning, type Place, System } from "./system.ts";

const GONE = { timeout: 20_000, interval: 50 };
const lockFile = ({ dataDir }: Place) => join(dataDir, "supervisor.json");

async function expectNothingLeft(place: Place, pids: number[]): Promise<void> {
  expect(pids.filter(isRunning)).toEqual([]);
  // A port that is free may be another program's for a moment: outgoing connections get theirs from the same range.
  for (const port of [place.port, place.natsPort]) await vi.waitUntil(() => isFree(port), GONE);
  expect(existsSync(lockFile(place))).toBe(false);
}

async function busy(port: number): Promise<Disposable> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  return { [Symbol.dispose]: () => void server.close() };
}

describe("npm start", () => {
  it("starts every process, says ready and a curl, and stops all of them in order on Ctrl-C", async () => {
    const place = await freshPlace();
    const system = new System(place, ["--schedulers", "2"]);
    await system.ready();
    await system.says(`curl http://127.0.0.1:${place.port}/v1/chat/completions`);
    const pids = system.pids();
    expect(pids).toHaveLength(1 + 2 + 2 + 1);
    system.process.kill("SIGINT");
    expect(await system.exited).toBe(0);
    await expectNothingLeft(place, pids);
    const stoppedAt = (instance: string) => String(system.log(instance).at(-1)?.time);
    expect(system.log("frontend-0").at(-1)).toMatchObject({ msg: "stopped" });
    expect(stoppedAt("frontend-0") <= stoppedAt("worker-agent-simulated-0")).toBe(true);
    expect(stoppedAt("worker-agent-simulated-1") <= stoppedAt("scheduler-simulated-0")).toBe(true);
  });

  it("takes one Ctrl-C that arrives twice for one", async () => {
    const place = await freshPlace();
    const system = new System(place);
    await system.ready();
    const pids = system.pids();
    system.process.kill("SIGINT");
    system.process.kill("SIGINT");
    expect(await system.exited).toBe(0);
    await expectNothingLeft(place, pids);
  });

  it("starts a process that dies again, nats-server too", async () => {
    const place = await freshPlace();
    const system = new System(place);
    await system.ready();
    const pid = system.pidOf("worker-agent-simulated-0");
    process.kill(pid, "SIGKILL");
    await system.says("worker-agent-simulated-0 was ended by SIGKILL; starting it again in 100 ms");
    await system.says("worker-agent-simulated-0 is back");
    expect(system.pidOf("worker-agent-simulated-0")).not.toBe(pid);

    const nats = /\d+/.exec(readFileSync(join(place.dataDir, "logs", "nats-server.log"), "utf8"))?.[0];
    process.kill(Number(nats), "SIGKILL");
    await system.says("nats-server ended with code 137; starting it again");
    await system.says("nats-server is back");
  });

  it("says why a service cannot start, stops everything and fails", async () => {
    const place = await freshPlace();
    const system = new System(place, [], { AUTELLIX_FIXTURE: "refuse:worker-agent-simulated-1" });
    expect(await system.exited).toBe(1);
    expect(system.output).toMatch(
      /^autellix: worker-agent-simulated-1 could not start: the model is broken \(log: .+\)$/m,
    );
    await expectNothingLeft(place, []);
  });

  it("stops on Ctrl-C while services are still starting", async () => {
    const place = await freshPlace();
    const system = new System(place, [], { AUTELLIX_FIXTURE: "hang:worker-agent-simulated-0" });
    await system.says("worker-agent-simulated-0: starting up");
    const pids = system.pids();
    system.process.kill("SIGTERM");
    expect(await system.exited).toBe(0);
    await expectNothingLeft(place, pids);
  });

  it("does not wait on a second Ctrl-C", async () => {
    const place = await freshPlace();
    const system = new System(place, [], { AUTELLIX_FIXTURE: "stuck:frontend-0" });
    await system.ready();
    const pids = system.pids();
    system.process.kill("SIGINT");
    await system.says("stopping …");
    // Signals closer together than a person can press count as one.
    const again = setInterval(() => system.process.kill("SIGINT"), 100);
    expect(await system.exited).toBe(130);
    clearInterval(again);
    await vi.waitUntil(() => !pids.some(isRunning), GONE);
    await expectNothingLeft(place, pids);
  });

  it("names a busy port and the option that changes it, before it starts anything", async () => {
    const place = await freshPlace();
    for (const [port, what, option] of [
      [place.port, "a frontend", "--port"],
      [place.natsPort, "nats-server", "--nats-port"],
    ] as const) {
      using _ = await busy(port);
      const system = new System(place);
      expect(await system.exited).toBe(1);
      expect(system.output).toBe(
        `autellix: port ${port}, wanted for ${what}, is in use; stop what uses it or choose another with ${option}\n`,
      );
    }
  });

  it("refuses a data folder that another one uses", async () => {
    const place = await freshPlace();
    const first = new System(place);
    await first.ready();
    const second = new System({ ...(await freshPlace()), dataDir: place.dataDir });
    expect(await second.exited).toBe(1);
    expect(second.output).toMatch(
      new RegExp(
        `^autellix: the data folder ${place.dataDir} is used by another autellix \\(process ${first.process.pid}\\); .+\n$`,
      ),
    );
    expect(first.process.exitCode).toBe(null);
  });

  it("leaves nothing behind when it is killed with -9, and the next start still has the queue", async () => {
    const place = await freshPlace();
    const first = new System(place);
    await first.ready();
    const url = `nats://127.0.0.1:${place.natsPort}`;
    const before = await openBus({ url, name: "test" });
    await before.jsm.streams.add({ name: "KEPT", subjects: ["kept.>"] });
    await before.js.publish("kept.one", "payload");
    await before.nc.close();
    const pids = first.pids();
    first.process.kill("SIGKILL");
    await first.exited;

    const second = new System(place);
    await second.ready();
    expect(pids.filter(isRunning)).toEqual([]);
    const after = await openBus({ url, name: "test" });
    expect((await after.jsm.streams.info("KEPT")).state.messages).toBe(1);
    await after.nc.close();
  });

  it("uses an outside nats-server, and says when none answers there", async () => {
    const place = await freshPlace();
    const first = new System(place);
    await first.ready();
    const second = new System(await freshPlace(), ["--nats-url", `nats://127.0.0.1:${place.natsPort}`]);
    await second.ready();
    expect(second.pids()).toHaveLength(1 + 2 + 1);

    const { natsPort } = await freshPlace();
    const third = new System(await freshPlace(), [], { NATS_URL: `nats://127.0.0.1:${natsPort}` });
    expect(await third.exited).toBe(1);
    expect(third.output).toMatch(
      new RegExp(`^autellix: no nats-server answers at nats://127\\.0\\.0\\.1:${natsPort}.*; see --nats-url\n$`),
    );
  });

  it("says in one line what is wrong with a model, a keys file or nats-server", async () => {
    const place = await freshPlace();
    const text = join(place.dataDir, "text.gguf");
    const nats = join(place.dataDir, "nats-server");
    await mkdir(place.dataDir, { recursive: true });
    await writeFile(text, "no model");
    await writeFile(nats, "#!/bin/sh\necho nats-server: v2.9.10\n");
    await chmod(nats, 0o755);
    for (const [args, env, line] of [
      [
        ["--engine", "llama", "--model", join(place.dataDir, "none.gguf")],
        {},
        /^autellix: model .+none\.gguf cannot be read: there is no such file; give a GGUF file with --model\n$/,
      ],
      [
        ["--engine", "llama", "--model", place.dataDir],
        {},
        /^autellix: model .+ cannot be read: it is a folder; .+\n$/,
      ],
      [["--engine", "llama", "--model", text], {}, /^autellix: model .+text\.gguf is not a GGUF file; .+\n$/],
      [
        ["--api-keys", join(place.dataDir, "none.json")],
        {},
        /^autellix: the keys file .+none\.json does not exist; .+\n$/,
      ],
      [["--api-keys", text], {}, /^autellix: the keys file .+text\.gguf is damaged; .+\n$/],
      [
        [],
        { NATS_SERVER_BIN: nats },
        /^autellix: NATS_SERVER_BIN=.+: is version 2\.9\.10; 2\.11\.0 or newer is needed\. .+\n$/,
      ],
    ] as const) {
      const system = new System(place, args, env);
      expect(await system.exited).toBe(1);
      expect(system.output).toMatch(line);
    }
  });
});
