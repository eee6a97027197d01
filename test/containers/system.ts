/**
 * The whole system of docker-compose.yml as one compose project on free ports, with what tests do to it. Taking it down
 * checks that nothing is left.
 */
import { randomBytes } from "node:crypto";
import { runChild } from "@autellix/runtime";
import type { DockerAccess } from "../equipment/docker.ts";
import type { Images } from "../equipment/images.ts";
import { stablePorts } from "./ports.ts";
import { ROOT } from "./services.ts";

const UP_MS_MAX = 180_000;
const COMMAND_MS_MAX = 120_000;
const LOG_LINES = 200;

/** The ports that docker-compose.yml publishes. */
const PORTS = [
  "AUTELLIX_PORT",
  "AUTELLIX_NATS_PORT",
  "AUTELLIX_NATS_PORT_1",
  "AUTELLIX_NATS_PORT_2",
  "AUTELLIX_DASHBOARD_PORT",
  "JAEGER_PORT",
  "PROMETHEUS_PORT",
] as const;
type PortVariable = (typeof PORTS)[number];

export interface Container {
  id: string;
  /** `frontend`, `nats-0`, … */
  service: string;
  /** `<project>-frontend-1`. */
  name: string;
  /** `running`, `exited`, … */
  state: string;
  /** `healthy`, `unhealthy`, `starting`, or empty. */
  health: string;
}

export interface System {
  readonly ports: Readonly<Record<PortVariable, number>>;
  /** Of the proxy. */
  readonly url: string;
  /** In the order nats-0, nats-1, nats-2. */
  readonly natsUrls: readonly string[];
  /** `docker compose <args>` of this project; stops at a failure. @returns its output. */
  compose(...args: string[]): Promise<string>;
  /** `docker <args>`. */
  docker(...args: string[]): Promise<string>;
  /** A command line, in this repository. @returns what it prints. */
  shell(command: string): Promise<string>;
  /** All containers, stopped ones too. */
  containers(service?: string): Promise<Container[]>;
  /** Starts what is not running and waits until all is healthy. @param args such as `--scale frontend=4`. */
  up(...args: string[]): Promise<void>;
  /** The end of every container's log. */
  logs(): Promise<string>;
  /** Removes containers, networks and volumes. @returns what is left of the project: nothing. */
  down(): Promise<string[]>;
}

export interface SystemOptions {
  docker: DockerAccess;
  images: Images;
  version: string;
  /** Variables of docker-compose.yml. */
  env?: Readonly<Record<string, string>>;
}

export async function newSystem({ docker: access, images, version, env = {} }: SystemOptions): Promise<System> {
  const project = `autellix-test-${randomBytes(4).toString("hex")}`;
  const free = await stablePorts(PORTS.length);
  const ports = Object.fromEntries(PORTS.map((name, index) => [name, free[index]])) as Record<PortVariable, number>;
  const numbers = Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, String(port)]));
  const variables = { ...process.env, ...access.env, ...images, AUTELLIX_VERSION: version, ...numbers, ...env };
  const run = async (command: string, args: readonly string[], msMax = COMMAND_MS_MAX) =>
    (await runChild(command, args, { env: variables, cwd: ROOT, signal: AbortSignal.timeout(msMax) })).stdout;
  const [composeCommand, ...composeArgs] = access.compose;
  // Only this file: what a person keeps in an override file or in .env is not tested here.
  const own = [...composeArgs, "--file", "docker-compose.yml", "--env-file", "/dev/null", "--project-name", project];
  const compose = (args: readonly string[], msMax?: number) => run(composeCommand, [...own, ...args], msMax);
  const docker = (...args: string[]) => run("docker", args);
  const label = `label=com.docker.compose.project=${project}`;
  const containers = async (service?: string) => {
    const text = await compose(["ps", "--all", "--format", "json", ...(service === undefined ? [] : [service])]);
    return text.split("\n").filter(Boolean).map(containerOf);
  };
  return {
    ports,
    url: `http://127.0.0.1:${ports.AUTELLIX_PORT}`,
    natsUrls: [ports.AUTELLIX_NATS_PORT, ports.AUTELLIX_NATS_PORT_1, ports.AUTELLIX_NATS_PORT_2].map(
      (port) => `nats://127.0.0.1:${port}`,
    ),
    compose: (...args) => compose(args),
    docker,
    shell: (command) => run("sh", ["-c", command]),
    containers,
    async up(...args) {
      await compose(["up", "--detach", "--no-build", "--wait", "--quiet-pull", ...args], UP_MS_MAX);
    },
    logs: () => compose(["logs", "--no-color", "--tail", String(LOG_LINES)]),
    async down() {
      await compose(["--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "10"]);
      const left = await Promise.all([
        docker("ps", "--all", "--quiet", "--filter", label),
        docker("network", "ls", "--quiet", "--filter", label),
        docker("volume", "ls", "--quiet", "--filter", label),
      ]);
      return left.flatMap((text) => text.split("\n").filter(Boolean));
    },
  };
}

/** Of a line of `docker compose ps --format json`. */
function containerOf(line: string): Container {
  const { ID, Service, Name, State, Health } = JSON.parse(line) as Record<string, string>;
  return { id: ID ?? "", service: Service ?? "", name: Name ?? "", state: State ?? "", health: Health ?? "" };
}
