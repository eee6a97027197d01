/**
 * The life of a service process: read the configuration, start, say when it is ready, stop in bounded time.
 *
 * With an IPC channel (started by the supervisor) it sends `ready`, `progress` and `fatal`, and stops by itself when
 * the channel closes: a supervisor that died leaves nothing behind. Without one it runs the same way by hand.
 */
import { AutellixError } from "@autellix/protocol";
import { z } from "zod";
import { CONFIG_EXIT_CODE, ConfigError, commonConfig, type Env, parseConfig } from "./config.ts";
import { createLogger, type Logger } from "./logger.ts";
import { addProcessMetrics, Metrics, openMetricsServer } from "./metrics/index.ts";

/**
 * Time that `stop()` may take where nothing else is said, and under a supervisor, which waits a little longer; then the
 * process exits without it.
 */
export const STOP_MS_MAX = 8_000;
/** Time that a `start()` which was interrupted may take to give up. */
const START_ABORT_MS_MAX = 2_000;
/** Time for the last message to reach the supervisor. */
const FATAL_SEND_MS_MAX = 500;

/** What a service tells its supervisor over IPC. */
export const serviceMessageSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("ready") }),
  z.object({ kind: z.literal("progress"), text: z.string() }),
  z.object({ kind: z.literal("fatal"), message: z.string() }),
]);
export type ServiceMessage = z.infer<typeof serviceMessageSchema>;

export interface RunningService {
  /** Ends all the service does. Cut off after `stopMsMax`. */
  stop(): Promise<void>;
  /** Default, and more has no effect under a supervisor: `STOP_MS_MAX`. */
  stopMsMax?: number;
  /** Why it cannot do its work now, for `/readyz`; undefined when it can. Without it: it can, once it has started. */
  unreadyReason?(): string | undefined;
}

export interface ServiceContext {
  log: Logger;
  /** Where the service adds what it counts; undefined when nobody asks for it: then it counts nothing. */
  metrics: Metrics | undefined;
  /** Says what is going on before the service is ready ("loading the model, 40 %"). */
  progress(text: string): void;
  /** Ends the process with exit code 1: something broke that it cannot go on without. Never returns to a clean state. */
  fail(error: unknown): void;
  /** A supervisor started it, and waits no longer than `STOP_MS_MAX` for its end. */
  isSupervised: boolean;
  /** Aborted when the process is told to stop, also while it still starts. */
  signal: AbortSignal;
}

export interface ServiceDefinition<C> {
  /** `frontend`, `scheduler`, … */
  name: string;
  /** `main.ts` passes `process.env`. */
  env: Env;
  config: z.ZodType<C>;
  start(config: C, context: ServiceContext): Promise<RunningService>;
}

/** Runs a service until a signal, its supervisor's end, or a failure ends the process. */
export async function runService<C>(definition: ServiceDefinition<C>): Promise<void> {
  const { name, env } = definition;
  let config: C;
  let log: Logger;
  let probe: Probe | undefined;
  try {
    const common = parseConfig(z.object(commonConfig), env);
    log = createLogger({
      service: name,
      level: common.AUTELLIX_LOG_LEVEL,
      pretty: common.AUTELLIX_PRETTY,
      ...(common.AUTELLIX_INSTANCE === undefined ? {} : { instance: common.AUTELLIX_INSTANCE }),
    });
    config = parseConfig(definition.config, env);
    const { AUTELLIX_METRICS_HOST: host, AUTELLIX_METRICS_PORT: port } = common;
    if (port !== undefined) probe = { host, port, metrics: new Metrics() };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${name}: ${error.message}\n`);
    await exitWithFatal(error.message, CONFIG_EXIT_CODE);
    return;
  }

  const life = new Life(log, probe);
  process.on("SIGTERM", () => life.stop("SIGTERM"));
  process.on("SIGINT", () => life.stop("SIGINT"));
  process.on("uncaughtException", (error) => life.fail(error, "uncaught exception"));
  process.on("unhandledRejection", (error) => life.fail(error, "unhandled rejection"));
  if (isSupervised) process.on("disconnect", () => life.stop("supervisor gone"));
  await life.start((context) => definition.start(config, context));
}

const isSupervised = process.send !== undefined;

interface Probe {
  host: string;
  port: number;
  metrics: Metrics;
}

/** `starting → running → stopping → gone`; only forwards. */
class Life {
  readonly #log: Logger;
  readonly #probe: Probe | undefined;
  readonly #abort = new AbortController();
  #state: "starting" | "running" | "stopping" | "gone" = "starting";
  #service: RunningService | undefined;

  constructor(log: Logger, probe: Probe | undefined) {
    this.#log = log;
    this.#probe = probe;
  }

  get unreadyReason(): string | undefined {
    return this.#state === "running" ? this.#service?.unreadyReason?.() : `the process is ${this.#state}`;
  }

  /** First of all, so that a start that takes long can be seen. @throws AutellixError when the port cannot be had. */
  async #openProbe(): Promise<void> {
    if (!this.#probe) return;
    addProcessMetrics(this.#probe.metrics);
    const { port } = await openMetricsServer({ ...this.#probe, unreadyReason: () => this.unreadyReason });
    this.#log.info({ host: this.#probe.host, port }, "serving metrics");
  }

  async start(run: (context: ServiceContext) => Promise<RunningService>): Promise<void> {
    this.#log.info("starting");
    try {
      await this.#openProbe();
      this.#service = await run({
        log: this.#log,
        metrics: this.#probe?.metrics,
        progress: (text) => tell({ kind: "progress", text }),
        fail: (error) => this.fail(error, "failed"),
        isSupervised,
        signal: this.#abort.signal,
      });
    } catch (error) {
      if (this.#state === "starting") this.fail(error, "could not start");
      // An interrupted start may end in any error: it was told to give up.
      else if (this.#state === "stopping") this.#exit(0);
      return;
    }
    if (this.#state === "gone") return;
    if (this.#state === "stopping") {
      void this.#stopService();
      return;
    }
    this.#state = "running";
    this.#log.info("ready");
    tell({ kind: "ready" });
  }

  /** A first reason drains; a second signal does not wait. */
  stop(reason: string): void {
    if (this.#state === "stopping" && reason !== "supervisor gone") {
      this.#log.warn({ reason }, "told twice: exiting at once");
      this.#exit(1);
      return;
    }
    if (this.#state === "stopping" || this.#state === "gone") return;
    const starting = this.#state === "starting";
    this.#state = "stopping";
    this.#log.info({ reason }, "stopping");
    this.#abort.abort();
    const stopMsMax = (!isSupervised && this.#service?.stopMsMax) || STOP_MS_MAX;
    const timer = setTimeout(
      () => {
        if (!starting) this.#log.error("did not stop in time: exiting");
        this.#exit(starting ? 0 : 1);
      },
      starting ? START_ABORT_MS_MAX : stopMsMax,
    );
    timer.unref();
    if (!starting) void this.#stopService();
  }

  async #stopService(): Promise<void> {
    try {
      await this.#service?.stop();
    } catch (error) {
      this.#log.error({ err: error }, "stopping failed");
      this.#exit(1);
      return;
    }
    this.#log.info("stopped");
    this.#exit(0);
  }

  fail(error: unknown, what: string): void {
    if (this.#state === "gone") return;
    this.#state = "gone";
    const expected = error instanceof AutellixError;
    if (expected) this.#log.fatal({ code: error.code, reason: error.message }, what);
    else this.#log.fatal({ err: error }, what);
    void exitWithFatal(error instanceof Error ? error.message : String(error), 1);
  }

  #exit(code: number): void {
    this.#state = "gone";
    process.exit(code);
  }
}

/** A supervisor that is gone hears nothing, and that is no failure of this process: `disconnect` stops it. */
function tell(message: ServiceMessage, sent: () => void = () => {}): void {
  if (!process.send || !process.connected) {
    sent();
    return;
  }
  process.send(message, undefined, undefined, () => sent());
}

async function exitWithFatal(message: string, code: number): Promise<void> {
  await new Promise<void>((resolve) => {
    setTimeout(resolve, FATAL_SEND_MS_MAX).unref();
    tell({ kind: "fatal", message: message.split("\n", 1)[0] ?? "" }, resolve);
  });
  process.exit(code);
}
