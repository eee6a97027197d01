import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { type ServiceMessage, serviceMessageSchema } from "../src/index.ts";

const FIXTURE = fileURLToPath(new URL("fixtures/service.ts", import.meta.url));

class Child {
  readonly process: ChildProcess;
  readonly messages: ServiceMessage[] = [];
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  output = "";
  #changed: () => void = () => {};

  constructor(env: Record<string, string>, ipc = true) {
    this.process = spawn(process.execPath, [FIXTURE], {
      env: { PATH: process.env.PATH, ...env },
      stdio: ipc ? ["ignore", "pipe", "pipe", "ipc"] : ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.on("data", (data: Buffer) => {
        this.output += data.toString();
        this.#changed();
      });
    }
    this.process.on("message", (message) => {
      this.messages.push(serviceMessageSchema.parse(message));
      this.#changed();
    });
    // Not "close": it is never emitted after this side has disconnected the IPC channel.
    const streams = [this.process.stdout, this.process.stderr].map((stream) => stream && once(stream, "close"));
    this.exited = Promise.all([once(this.process, "exit"), ...streams]).then(([[code, signal]]) => ({ code, signal }));
  }

  async until(seen: () => boolean): Promise<void> {
    while (!seen()) {
      await new Promise<void>((resolve, reject) => {
        this.#changed = resolve;
        void this.exited.then(() => reject(new Error(`exited first:\n${this.output}`)));
      });
    }
  }

  untilReady(): Promise<void> {
    return this.until(() => this.messages.some(({ kind }) => kind === "ready"));
  }

  lines(): Record<string, unknown>[] {
    return this.output
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
  }
}

describe("runService", () => {
  const children: Child[] = [];
  const run = (env: Record<string, string> = {}, ipc = true) => {
    const child = new Child(env, ipc);
    children.push(child);
    return child;
  };

  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.process.kill("SIGKILL");
      await child.exited;
    }
  });

  it("tells its supervisor of progress and of being ready, and logs one schema", async () => {
    const child = run({ AUTELLIX_INSTANCE: "a-0" });
    await child.untilReady();
    expect(child.messages).toEqual([{ kind: "progress", text: "half way" }, { kind: "ready" }]);
    await child.until(() => child.output.includes("serving"));
    const line = child.lines().find(({ msg }) => msg === "serving");
    expect(line).toMatchObject({ level: "info", service: "fixture", instance: "a-0", pool: "p", attempt: 1 });
    expect(new Date(String(line?.time)).toISOString()).toBe(line?.time);
  });

  it("writes lines for people when asked", async () => {
    const child = run({ AUTELLIX_PRETTY: "1" });
    await child.until(() => child.output.includes("serving"));
    expect(child.output).toMatch(/INFO.*fixture: serving/);
  });

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it(`drains on ${signal} and exits with 0`, async () => {
      const child = run();
      await child.untilReady();
      child.process.kill(signal);
      expect(await child.exited).toEqual({ code: 0, signal: null });
      expect(child.output).toContain("drained");
    });
  }

  it("exits at once on a second signal", async () => {
    const child = run({ AUTELLIX_BEHAVIOUR: "stops-never" });
    await child.untilReady();
    child.process.kill("SIGTERM");
    await child.until(() => child.output.includes("stopping"));
    child.process.kill("SIGTERM");
    expect((await child.exited).code).toBe(1);
  });

  it("ends without what takes longer than it said, where nobody supervises it", async () => {
    const child = run({ AUTELLIX_BEHAVIOUR: "stops-never", AUTELLIX_STOP_MS_MAX: "50" }, false);
    await child.until(() => child.output.includes("serving"));
    child.process.kill("SIGTERM");
    expect((await child.exited).code).toBe(1);
    expect(child.output).toContain("did not stop in time");
  });

  it("gives up a start that is interrupted, with exit code 0", async () => {
    const child = run({ AUTELLIX_BEHAVIOUR: "hangs" });
    await child.until(() => child.messages.length > 0);
    child.process.kill("SIGTERM");
    expect((await child.exited).code).toBe(0);
  });

  it("stops by itself when its supervisor is gone", async () => {
    const child = run();
    await child.untilReady();
    child.process.disconnect();
    expect((await child.exited).code).toBe(0);
    expect(child.output).toContain("drained");
  });

  it("runs without a supervisor, too", async () => {
    const child = run({}, false);
    await child.until(() => child.output.includes("ready"));
    child.process.kill("SIGTERM");
    expect((await child.exited).code).toBe(0);
  });

  it("stops at a bad value with exit code 2 and one line that names the variable", async () => {
    const child = run({ AUTELLIX_PORT: "80x" });
    expect((await child.exited).code).toBe(2);
    expect(child.output).toBe('fixture: AUTELLIX_PORT must be a whole number from 1 to 65535 (it is "80x")\n');
    expect(child.messages).toEqual([
      { kind: "fatal", message: 'AUTELLIX_PORT must be a whole number from 1 to 65535 (it is "80x")' },
    ]);
  });

  it("says an expected failure at the start in one line, without a stack", async () => {
    const child = run({ AUTELLIX_BEHAVIOUR: "refuses" });
    expect((await child.exited).code).toBe(1);
    expect(child.messages.at(-1)).toEqual({ kind: "fatal", message: "no nats-server answers at nats://nowhere" });
    expect(child.lines().at(-1)).toMatchObject({ level: "fatal", code: "queue_unavailable" });
    expect(child.output).not.toContain("service.ts:");
  });

  for (const [behaviour, text] of [
    ["breaks", "surprise"],
    ["throws-later", "thrown later"],
    ["rejects-later", "rejected later"],
    ["fails-later", "the engine is gone"],
  ] as const) {
    it(`exits with 1 and tells the supervisor when it ${behaviour}`, async () => {
      const child = run({ AUTELLIX_BEHAVIOUR: behaviour });
      expect((await child.exited).code).toBe(1);
      expect(child.messages.at(-1)).toEqual({ kind: "fatal", message: text });
      expect(child.lines().at(-1)).toMatchObject({ level: "fatal" });
    });
  }
});
