/** What can be seen to be wrong before anything is started. */

import { request } from "node:http";
import { createServer } from "node:net";
import { openBus } from "@autellix/protocol";
import { reasonOf } from "@autellix/runtime";
import { readKeys } from "../keys.ts";
import { ReadableError, UsageError } from "../usage.ts";
import { PORT_MAX } from "./metrics-ports.ts";
import type { StartOptions } from "./options.ts";
import { frontendPorts, HOST } from "./services.ts";

const NATS_CONNECT_MS_MAX = 3_000;
const READY_ASK_MS_MAX = 1_000;

/** @throws ReadableError with one line that names the port and the option that changes it. */
export async function checkPorts(options: StartOptions): Promise<void> {
  const ports = frontendPorts(options);
  if (options.natsUrl === undefined && ports.includes(options.natsPort)) {
    throw new UsageError(
      `port ${options.natsPort} would be both a frontend's and nats-server's; change --port or --nats-port`,
    );
  }
  const { dashboardPort } = options;
  if (dashboardPort !== undefined && [...ports, options.natsPort].includes(dashboardPort)) {
    throw new UsageError(
      `port ${dashboardPort} would be both the dashboard's and another's; change --dashboard-port, --port or --nats-port`,
    );
  }
  for (const port of ports) await checkPort(port, "a frontend", "--port");
  if (dashboardPort !== undefined) await checkPort(dashboardPort, "the dashboard", "--dashboard-port");
  if (options.natsUrl === undefined) await checkPort(options.natsPort, "nats-server", "--nats-port");
}

/**
 * The ports that were named for metrics; others are chosen where there is room.
 * @throws ReadableError with one line that names the port and the option that changes it.
 */
export async function checkMetricsPorts({ metricsPort, ...options }: StartOptions, services: number): Promise<void> {
  if (typeof metricsPort !== "number") return;
  if (metricsPort + services - 1 > PORT_MAX)
    throw new UsageError(`--metrics-port ${metricsPort} leaves no room for ${services} services below ${PORT_MAX}`);
  const others = [...frontendPorts(options), options.natsPort, options.dashboardPort];
  for (let port = metricsPort; port < metricsPort + services; port++) {
    if (others.includes(port)) {
      throw new UsageError(
        `port ${port} would be both for metrics and another's; change --metrics-port, --port or --nats-port`,
      );
    }
    await checkPort(port, "metrics", "--metrics-port");
  }
}

export async function isPortFree(port: number): Promise<boolean> {
  return (await listenError(port)) === undefined;
}

async function listenError(port: number): Promise<NodeJS.ErrnoException | undefined> {
  const server = createServer();
  const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    server.once("error", resolve);
    server.listen({ host: HOST, port, exclusive: true }, () => resolve(undefined));
  });
  await new Promise((resolve) => server.close(resolve));
  return error;
}

async function checkPort(port: number, use: string, option: string): Promise<void> {
  const error = await listenError(port);
  if (error === undefined) return;
  if (error.code === "EADDRINUSE")
    throw new ReadableError(
      `port ${port}, wanted for ${use}, is in use; stop what uses it or choose another with ${option}`,
    );
  if (error.code === "EACCES")
    throw new ReadableError(`port ${port}, wanted for ${use}, needs more rights; choose one above 1023 with ${option}`);
  throw new ReadableError(
    `port ${port}, wanted for ${use}, cannot be used (${error.message}); choose another with ${option}`,
  );
}

/** @throws ReadableError when no server that is new enough and has JetStream answers there. */
export async function checkNats(url: string): Promise<void> {
  try {
    const bus = await openBus({ url, name: "autellix-check", connectTimeoutMs: NATS_CONNECT_MS_MAX });
    await bus.nc.close();
  } catch (error) {
    // The adapter's own message is the readable one, not its cause.
    throw new ReadableError(`${error instanceof Error ? error.message : reasonOf(error)}; see --nats-url`);
  }
}

export async function checkKeys(path: string | undefined): Promise<void> {
  if (path !== undefined) await readKeys(path);
}

/** @returns whether the frontend says that a call would be served now. */
export function isFrontendReady(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const asking = request(
      { host: HOST, port, path: "/readyz", timeout: READY_ASK_MS_MAX, agent: false },
      (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      },
    );
    asking.on("timeout", () => asking.destroy());
    asking.on("error", () => resolve(false));
    asking.end();
  });
}
