/**
 * One frontend, wired: NATS, keys, machine, HTTP. `main.ts` runs it as a process, tests run it beside themselves.
 */
import type { Server } from "node:http";
import { answerFacts, type ErrorCode, openBus } from "@autellix/protocol";
import { addBusMetrics, addSpanMetrics, type Logger, type Metrics, openSpans } from "@autellix/runtime";
import { Adapter } from "./adapter.ts";
import { CallTrace } from "./call-trace.ts";
import type { Config } from "./config.ts";
import { createServer, listen } from "./http/server.ts";
import { keyRing, openRing } from "./keys.ts";
import { FrontendMetrics } from "./metrics.ts";

/** Time that cancels have at a stop to be confirmed. */
const LAST_CANCELS_MS_MAX = 1_500;
const CLOSE_MS_MAX = 1_000;

export interface FrontendContext {
  log: Logger;
  /** Where it is counted what the frontend does, if it is. */
  metrics?: Metrics | undefined;
  progress(text: string): void;
  fail(error: unknown): void;
}

export interface Frontend {
  port: number;
  /** Why it cannot serve a call now; undefined when it can. */
  unreadyReason(): string | undefined;
  stop(): Promise<void>;
}

/** @throws AutellixError with one readable line: no NATS, a bad key file, a busy port. */
export async function startFrontend(config: Config, context: FrontendContext): Promise<Frontend> {
  const { log, progress, fail } = context;
  const { limits, host, trace: recording } = config;
  const keys = config.apiKeysFile === undefined ? openRing : await keyRing(config.apiKeysFile, log);
  const onStatus = (reason: string) => log.warn({ reason }, "the connection to NATS");
  let metrics: FrontendMetrics | undefined;
  progress("connecting to NATS");
  const bus = await openBus({ url: config.natsUrl, name: "autellix-frontend", onStatus });
  const trace = recording && (await CallTrace.open({ ...recording, bytesMax: limits.traceBytesMax, log }));
  const { spans: tracing, instance = `${host}:${config.port}` } = config;
  const spans = tracing && (await openSpans(tracing, { service: "frontend", instance, log }));
  const desk = new Adapter({ bus, limits, log, trace, metrics: () => metrics, spans, fail });
  const onAnswer =
    context.metrics && ((status: number, refusedAs: ErrorCode | undefined) => metrics?.httpAnswered(status, refusedAs));
  const server = createServer({ desk, keys, limits, log, onAnswer });
  if (context.metrics) {
    addBusMetrics(context.metrics, bus);
    if (spans) addSpanMetrics(context.metrics, spans);
    const connections = async () => await openConnections(server.server);
    metrics = new FrontendMetrics(context.metrics, limits, () => desk.use(), connections);
  }
  const close = async () => {
    keys.stop();
    desk.stop();
    await trace?.close();
    await spans?.stop();
    await bus.nc.close();
  };
  let port: number;
  try {
    await desk.start();
    port = await listen(server, host, config.port);
  } catch (error) {
    await close();
    throw error;
  }
  log.info({ host, port }, "listening");
  const facts = () => ({ service: "frontend", bodyBytesMax: limits.bodyBytesMax, http: { host, port } });
  answerFacts(bus, facts, (error) => log.warn({ err: error }, "a question for facts stays without answer"));
  return {
    port,
    unreadyReason: () => desk.unreadyReason(),
    stop: async () => {
      // Closing waits for the answers under way: `drain` ends them.
      const closed = server.close();
      await desk.drain(limits.drainMsMax, LAST_CANCELS_MS_MAX);
      server.server.closeIdleConnections();
      const cut = setTimeout(() => server.server.closeAllConnections(), CLOSE_MS_MAX);
      await closed;
      clearTimeout(cut);
      await close();
    },
  };
}

async function openConnections(server: Server): Promise<number> {
  return await new Promise((resolve, reject) =>
    server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  );
}
