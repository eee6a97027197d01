/** Three nats-servers as one cluster with the repository's own configuration, started by testcontainers. */
import { join } from "node:path";
import { openBus } from "@autellix/protocol";
import { runChild } from "@autellix/runtime";
import { GenericContainer, Network, type StartedNetwork, type StartedTestContainer, Wait } from "testcontainers";
import type { DockerAccess } from "../equipment/docker.ts";
import type { Images } from "../equipment/images.ts";
import { stablePorts } from "./ports.ts";
import { ROOT } from "./services.ts";

const NAMES = ["nats-0", "nats-1", "nats-2"] as const;
export type ServerName = (typeof NAMES)[number];
const COMMAND_MS_MAX = 60_000;
const START_MS_MAX = 60_000;
const CONFIG = join(ROOT, "infra/nats/cluster.conf");

export interface NatsCluster {
  /** All three, comma-separated. */
  readonly url: string;
  urlOf(server: ServerName): string;
  /** Which server leads the stream. @throws when a majority does not know. */
  leaderOf(stream: string): Promise<ServerName | undefined>;
  kill(server: ServerName): Promise<void>;
  start(server: ServerName): Promise<void>;
  pause(server: ServerName): Promise<void>;
  unpause(server: ServerName): Promise<void>;
  /** Takes the server off its network: neither the others nor clients reach it. */
  cutOff(server: ServerName): Promise<void>;
  join(server: ServerName): Promise<void>;
  stop(): Promise<void>;
}

/** Ports are fixed: a server that is started again is where clients look for it. */
export async function startNatsCluster({
  docker,
  images,
}: {
  docker: DockerAccess;
  images: Images;
}): Promise<NatsCluster> {
  // What testcontainers reads when it is used first. Its own cleaner is an image that may not be there to be pulled.
  Object.assign(process.env, docker.env, { TESTCONTAINERS_RYUK_DISABLED: "true" });
  const free = await stablePorts(NAMES.length);
  const ports = Object.fromEntries(NAMES.map((name, index) => [name, free[index] ?? 0])) as Record<ServerName, number>;
  const urlOf = (server: ServerName) => `nats://127.0.0.1:${ports[server]}`;
  const network = await new Network().start();
  const servers = new Map<ServerName, StartedTestContainer>();
  const stop = async () => {
    for (const server of servers.values()) await server.stop({ remove: true, removeVolumes: true });
    await network.stop();
  };
  try {
    // A server alone is not healthy, so they are started together.
    const started = NAMES.map(async (name) => servers.set(name, await startServer(name, ports[name], network, images)));
    for (const result of await Promise.allSettled(started)) if (result.status === "rejected") throw result.reason;
    // Each is up; now they elect.
    const bus = await openBus({
      url: NAMES.map(urlOf).join(","),
      name: "cluster test",
      connectTimeoutMs: START_MS_MAX,
    });
    await bus.nc.close();
  } catch (error) {
    await stop();
    throw error;
  }
  const run = async (...args: string[]) =>
    void (await runChild("docker", args, { env: process.env, signal: AbortSignal.timeout(COMMAND_MS_MAX) }));
  const idOf = (server: ServerName) => servers.get(server)?.getId() ?? "";
  const url = NAMES.map(urlOf).join(",");
  return {
    url,
    urlOf,
    async leaderOf(stream) {
      const bus = await openBus({ url, name: "cluster test" });
      try {
        const leader = (await bus.jsm.streams.info(stream)).cluster?.leader;
        return NAMES.find((name) => name === leader);
      } finally {
        await bus.nc.close();
      }
    },
    kill: (server) => run("kill", idOf(server)),
    start: (server) => run("start", idOf(server)),
    pause: (server) => run("pause", idOf(server)),
    unpause: (server) => run("unpause", idOf(server)),
    cutOff: (server) => run("network", "disconnect", network.getName(), idOf(server)),
    join: (server) => run("network", "connect", "--alias", server, network.getName(), idOf(server)),
    stop,
  };
}

async function startServer(name: ServerName, port: number, network: StartedNetwork, images: Images) {
  return await new GenericContainer(images.NATS_IMAGE)
    .withNetwork(network)
    .withNetworkAliases(name)
    .withEnvironment({ NATS_SERVER_NAME: name })
    .withCopyFilesToContainer([{ source: CONFIG, target: "/etc/nats/cluster.conf" }])
    .withCommand(["--config", "/etc/nats/cluster.conf"])
    .withExposedPorts({ container: 4222, host: port })
    .withWaitStrategy(Wait.forLogMessage(/Server is ready/))
    .withStartupTimeout(START_MS_MAX)
    .start();
}
