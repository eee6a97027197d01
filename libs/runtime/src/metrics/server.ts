/**
 * The small HTTP server that each service opens when it has a port for it: `/metrics` for Prometheus, `/healthz` (the
 * process lives) and `/readyz` (it can do its work) for whoever restarts or routes. It asks for no key: what it says are
 * numbers, but it belongs behind the firewall.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { AutellixError } from "@autellix/protocol";
import type { Metrics } from "./metrics.ts";

/** More than Prometheus, its double and health checks open. */
const CONNECTIONS_MAX = 64;
const REQUEST_MS_MAX = 10_000;
const JSON_TYPE = "application/json; charset=utf-8";

export interface MetricsServer {
  port: number;
  close(): void;
}

export interface MetricsServerOptions {
  host: string;
  /** 0: a free one. */
  port: number;
  metrics: Metrics;
  /** Why the service cannot do its work now; undefined when it can. */
  unreadyReason(): string | undefined;
}

/** @throws AutellixError `internal_error` with one readable line when the port cannot be had. */
export async function openMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const { host, port } = options;
  const server = createServer(
    { requestTimeout: REQUEST_MS_MAX, headersTimeout: REQUEST_MS_MAX },
    (request, response) => {
      answer(request, response, options).catch(() => response.destroy());
    },
  );
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const why = cause.code === "EADDRINUSE" ? "the port is in use" : cause.message;
      reject(new AutellixError("internal_error", `cannot listen on ${host}:${port} for metrics: ${why}`, { cause }));
    });
    server.listen({ host, port }, resolve);
  });
  // It must not keep a process alive that has nothing else to do.
  server.unref();
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(
  { url = "", method }: IncomingMessage,
  response: ServerResponse,
  { metrics, unreadyReason }: MetricsServerOptions,
): Promise<void> {
  const say = (status: number, type: string, text: string) => {
    const length = Buffer.byteLength(text);
    response.writeHead(status, { "content-type": type, "content-length": length });
    response.end(method === "HEAD" ? undefined : text);
  };
  if (method !== "GET" && method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    say(405, JSON_TYPE, `{"status":"the path takes GET, HEAD"}`);
    return;
  }
  switch (url.split("?", 1)[0]) {
    case "/metrics":
      say(200, metrics.contentType, await metrics.text());
      return;
    case "/healthz":
      say(200, JSON_TYPE, `{"status":"ok"}`);
      return;
    case "/readyz": {
      const reason = unreadyReason();
      if (reason === undefined) say(200, JSON_TYPE, `{"status":"ready"}`);
      else say(503, JSON_TYPE, JSON.stringify({ status: "unready", reason }));
      return;
    }
    default:
      say(404, JSON_TYPE, `{"status":"no such path; there are /metrics, /healthz, /readyz"}`);
  }
}
