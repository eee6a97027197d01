/** Runs `npm start` with fixture services as a child, and looks at it from outside. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { freePort } from "../../../test/support/nats.ts";

const START = fileURLToPath(new URL("fixtures/start.ts", import.meta.url));

export interface Place {
  dataDir: string;
  port: number;
  natsPort: number;
}

/** A data folder and ports that are free; the folder is removed after the test. */
export async function freshPlace(): Promise<Place> {
  const dataDir = await mkdtemp(join(tmpdir(), "autellix-test-"));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  return { dataDir, port: await freePort(), natsPort: await freePort() };
}

export class System {
  readonly process: ChildProcess;
  readonly place: Place;
  readonly exited: Promise<number | null>;
  output = "";
  #changed: () => void = () => {};

  constructor(place: Place, args: readonly string[] = [], env: Record<string, string> = {}) {
    this.place = place;
    const all = [
      "--data-dir",
      place.dataDir,
      "--port",
      String(place.port),
      "--nats-port",
      String(place.natsPort),
      // Tests side by side would find the same ports free.
      "--metrics-port",
      "off",
      "--no-dashboard",
      "--frontends",
      "1",
      "--engine",
      "simulated",
      ...args,
    ];
    this.process = spawn(process.execPath, [START, ...all], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
        this.#changed();
      });
    }
    this.exited = once(this.process, "close").then(([code]) => code);
    onTestFinished(async () => {
      if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill("SIGINT");
      await this.exited;
    });
  }

  /** Waits for a text in what it prints. */
  async says(text: string): Promise<void> {
    while (!this.output.includes(text)) {
      await new Promise<void>((resolve, reject) => {
        this.#changed = resolve;
        void this.exited.then(() =>
          this.output.includes(text) ? resolve() : reject(new Error(`exited first:\n${this.output}`)),
        );
      });
    }
  }

  ready(): Promise<void> {
    return this.says("autellix ready");
  }

  /** Process ids that it has noted, with the instance each log file belongs to. */
  pids(): number[] {
    const path = join(this.place.dataDir, "supervisor.json");
    if (!existsSync(path)) return [];
    return JSON.parse(readFileSync(path, "utf8")).children.map(({ pid }: { pid: number }) => pid);
  }

  /** @returns the pid of the process whose environment names this instance (Linux). */
  pidOf(instance: string): number {
    for (const pid of this.pids()) {
      if (readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(`AUTELLIX_INSTANCE=${instance}`))
        return pid;
    }
    throw new Error(`no process of ${instance}`);
  }

  log(instance: string): Record<string, unknown>[] {
    return readFileSync(join(this.place.dataDir, "logs", `${instance}.log`), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  }
}

/** Running, not merely waiting to be collected by whoever adopted it. */
export function isRunning(pid: number): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2, text.lastIndexOf(")") + 3) !== "Z";
  } catch {
    return false;
  }
}

export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const free = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false));
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => resolve(true));
  });
  await new Promise((resolve) => server.close(resolve));
  return free;
}
