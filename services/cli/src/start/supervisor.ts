/**
 * Runs the whole system on this machine: nats-server and every service as processes of their own, started together,
 * started again when they die, stopped in order.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Env } from "@autellix/runtime";
import { ReadableError } from "../usage.ts";
import { isFrontendReady } from "./checks.ts";
import type { Console } from "./console.ts";
import { rotateLog } from "./log-file.ts";
import { NatsProcess } from "./nats-process.ts";
import { ServiceProcess } from "./service-process.ts";
import { type ServiceSpec, STOP_ORDER } from "./services.ts";

/** A large model takes minutes to load from a slow disk. */
const START_MS_MAX = 10 * 60_000;
const READY_POLL_MS = 100;

/** Go's collector of the own nats-server runs at 25 % growth instead of 100 %: its caches come and go with the load. */
const NATS_GOGC = "25";

export interface SupervisorOptions {
  env: Env;
  cwd: string;
  dataDir: string;
  console: Console;
  /** Aborted by the first Ctrl-C. */
  signal: AbortSignal;
  /** Each log line of each service, for `--pretty`. */
  onLogLine: ((line: string) => void) | undefined;
  /** A process was started. */
  onPid(pid: number): void;
}

export class Supervisor {
  readonly #options: SupervisorOptions;
  #nats: NatsProcess | undefined;
  #services: ServiceProcess[] = [];

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** @returns its URL. @throws PartError when it cannot start. */
  async startNats(bin: string, port: number): Promise<string> {
    const { env, dataDir, console, signal, onPid } = this.#options;
    const logFile = await this.#logFile("nats-server");
    this.#nats = new NatsProcess(
      { bin, port, dataDir: join(dataDir, "nats"), env: { GOGC: NATS_GOGC, ...env }, logFile, signal },
      { onStatus: (text) => console.line(text), onPid },
    );
    return this.#nats.start();
  }

  /**
   * Starts all at once; resolves when each is ready and every frontend says that it can serve.
   * @param frontendPorts asked for `/readyz`.
   * @throws ReadableError for the first that cannot start; the signal's reason when that aborts.
   */
  async startServices(specs: readonly ServiceSpec[], frontendPorts: readonly number[]): Promise<void> {
    const { env, cwd, console, signal, onLogLine, onPid } = this.#options;
    for (const spec of specs) {
      const service = new ServiceProcess(spec, {
        env,
        cwd,
        logFile: await this.#logFile(spec.name),
        onLogLine,
        onProgress: (text) => console.progress(spec.name, text),
        onStatus: (text) => console.line(text),
        onPid,
      });
      this.#services.push(service);
    }
    signal.throwIfAborted();
    for (const service of this.#services) service.start();
    const ready = Promise.all(this.#services.map((service) => service.firstReady)).then(() =>
      this.#untilServed(frontendPorts),
    );
    await withinStartTime(ready, signal);
  }

  /** Frontends, agents, schedulers, nats-server; each kind in bounded time. Also in the middle of a start. */
  async stop(): Promise<void> {
    for (const kind of STOP_ORDER) {
      await Promise.all(this.#services.filter(({ spec }) => spec.kind === kind).map((service) => service.stop()));
    }
    await this.#nats?.stop();
  }

  /** A process can be ready before the system is: a leader has to be found, an engine to join. */
  async #untilServed(ports: readonly number[]): Promise<void> {
    const { signal } = this.#options;
    for (const port of ports) {
      while (!signal.aborted && !(await isFrontendReady(port)))
        await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    }
  }

  async #logFile(name: string): Promise<string> {
    const folder = join(this.#options.dataDir, "logs");
    await mkdir(folder, { recursive: true });
    const path = join(folder, `${name}.log`);
    rotateLog(path);
    return path;
  }
}

async function withinStartTime(ready: Promise<void>, signal: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  const ended = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    timer = setTimeout(
      () => reject(new ReadableError(`not ready after ${START_MS_MAX / 60_000} minutes; the logs say more`)),
      START_MS_MAX,
    );
  });
  try {
    signal.throwIfAborted();
    await Promise.race([ready, ended]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
