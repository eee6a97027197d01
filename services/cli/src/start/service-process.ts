/**
 * One service as a process of its own: started, watched, started again when it dies, stopped in bounded time.
 *
 * It is a process group of its own, so that a terminal's Ctrl-C does not reach it before its turn, and has an IPC
 * channel: it says `ready`, `progress` and `fatal`, and stops by itself when this process dies.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import { LineSplitter } from "@autellix/protocol/lines";
import { type Env, holdGroup, STOP_MS_MAX, sendSignal, serviceMessageSchema } from "@autellix/runtime";
import { ReadableError } from "../usage.ts";
import { withLog } from "./log-file.ts";
import { Restarts } from "./restarts.ts";
import type { ServiceSpec } from "./services.ts";

/** Longer than the service itself allows, so that its own limit comes first. */
const KILL_AFTER_MS = STOP_MS_MAX + 1_000;
/** Deaths without a reason before a service was ever ready. */
const FIRST_START_ATTEMPTS_MAX = 3;

/**
 * Young generation of V8, MB per half. By default it grows to 16 under load, which looks like a leak and helps nothing
 * here. A frontend's buffers live a little longer than what the others hold, and are freed sooner with 4 than with 2
 * (measured by `npm run load:overload`). An agent's collections run on the core of its engine, between two steps
 * (measured by `npm run bench:engine`). Each collection of the scheduler looks at its whole heap's pages, however little
 * is new: with many calls queued it has fewer of them (measured by `npm run bench:core`).
 */
const SEMI_SPACE_MB: Record<ServiceSpec["kind"], number> = {
  frontend: 4,
  "worker-agent": 8,
  scheduler: 8,
  dashboard: 4,
};

export interface ServiceContext {
  env: Env;
  cwd: string;
  logFile: string;
  /** Gets each log line, too. */
  onLogLine: ((line: string) => void) | undefined;
  onProgress(text: string): void;
  /** A line for the person: it died, it is back. */
  onStatus(text: string): void;
  /** A process was started. */
  onPid(pid: number): void;
}

export class ServiceProcess {
  readonly spec: ServiceSpec;
  /** Resolves when it is ready for the first time. Rejects with a ReadableError when it cannot start. */
  readonly firstReady: Promise<void>;
  readonly #context: ServiceContext;
  readonly #restarts = new Restarts();
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #wasReady = false;
  #stopping = false;
  #deathsBeforeReady = 0;
  #settleFirst: { resolve(): void; reject(error: Error): void };

  constructor(spec: ServiceSpec, context: ServiceContext) {
    this.spec = spec;
    this.#context = context;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.firstReady = promise;
    this.#settleFirst = { resolve, reject };
    // Whoever starts many services waits for all of them at once; a rejection meanwhile is not forgotten.
    promise.catch(() => {});
  }

  start(): void {
    const { env, cwd, logFile, onLogLine } = this.#context;
    const child = withLog(logFile, (fd) => {
      const output = onLogLine === undefined ? fd : "pipe";
      return spawn(process.execPath, [`--max-semi-space-size=${SEMI_SPACE_MB[this.spec.kind]}`, this.spec.module], {
        detached: true,
        cwd,
        env: { ...env, ...this.spec.env },
        stdio: ["ignore", output, output, "ipc"],
      });
    });
    this.#child = child;
    if (onLogLine !== undefined) this.#tee(child, onLogLine);
    const held = child.pid === undefined ? undefined : holdGroup(child.pid);
    let fatal: string | undefined;
    child.on("message", (raw) => {
      const message = serviceMessageSchema.safeParse(raw);
      if (!message.success) return; // not ours to judge: a library may use the channel, too
      if (message.data.kind === "ready") this.#ready();
      else if (message.data.kind === "progress") this.#context.onProgress(message.data.text);
      else fatal = message.data.message;
    });
    const ended = (how: string) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      held?.release();
      this.#died(how, fatal);
    };
    child.once("error", (error) => ended(error.message));
    child.once("exit", (code, signal) => ended(signal === null ? `ended with code ${code}` : `was ended by ${signal}`));
    this.#restarts.started();
    if (child.pid !== undefined) this.#context.onPid(child.pid);
  }

  /** Ends it in bounded time; it is not started again. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child?.pid === undefined) return;
    const { pid } = child;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    sendSignal(pid, "SIGTERM");
    const timer = setTimeout(() => sendSignal(-pid, "SIGKILL"), KILL_AFTER_MS);
    await exited;
    clearTimeout(timer);
  }

  #ready(): void {
    if (this.#wasReady) this.#context.onStatus(`${this.spec.name} is back`);
    this.#wasReady = true;
    this.#settleFirst.resolve();
  }

  #died(how: string, fatal: string | undefined): void {
    if (this.#stopping) return;
    const { name } = this.spec;
    const { logFile, onStatus } = this.#context;
    if (!this.#wasReady) {
      this.#deathsBeforeReady += 1;
      if (fatal !== undefined || this.#deathsBeforeReady >= FIRST_START_ATTEMPTS_MAX) {
        this.#stopping = true;
        this.#settleFirst.reject(new ReadableError(`${name} could not start: ${fatal ?? how} (log: ${logFile})`));
        return;
      }
    }
    const delayMs = this.#restarts.died();
    onStatus(`${name} ${how}${fatal === undefined ? "" : ` (${fatal})`}; starting it again in ${delayMs} ms`);
    this.#timer = setTimeout(() => this.start(), delayMs);
  }

  #tee(child: ChildProcess, onLogLine: (line: string) => void): void {
    for (const input of [child.stdout, child.stderr]) {
      if (input === null) continue;
      const splitter = new LineSplitter();
      const write = (lines: readonly string[]) => {
        for (const line of lines) {
          appendFileSync(this.#context.logFile, `${line}\n`);
          onLogLine(line);
        }
      };
      input.setEncoding("utf8");
      input.on("data", (piece: string) => write(splitter.push(piece))).on("end", () => write(splitter.end()));
    }
  }
}
