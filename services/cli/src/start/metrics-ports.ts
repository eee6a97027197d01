/** Ports of the services' metrics, one after another, and the file that tells Prometheus of them. */
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { StartOptions } from "./options.ts";
import { frontendPorts, HOST, type ServiceSpec } from "./services.ts";

/** Where many exporters begin. */
export const METRICS_PORT_FIRST = 9464;
export const PORT_MAX = 65_535;
/** Rows of ports that are tried before there are no metrics. */
const ROWS_MAX = 200;

/**
 * The first port of a row for `count` services.
 * @param isFree asked of one port.
 * @returns undefined when none are wanted, or none were found.
 */
export async function metricsPort(
  options: Pick<StartOptions, "metricsPort" | "port" | "frontends" | "natsPort"> & {
    dashboardPort?: number | undefined;
  },
  count: number,
  isFree: (port: number) => Promise<boolean>,
): Promise<number | undefined> {
  if (options.metricsPort !== undefined) return options.metricsPort === "off" ? undefined : options.metricsPort;
  const taken = new Set([...frontendPorts(options), options.natsPort, options.dashboardPort]);
  let first = METRICS_PORT_FIRST;
  for (let rows = 0; rows < ROWS_MAX && first + count - 1 <= PORT_MAX; rows++) {
    let used: number | undefined;
    for (let port = first; port < first + count && used === undefined; port++) {
      if (taken.has(port) || !(await isFree(port))) used = port;
    }
    if (used === undefined) return first;
    first = used + 1;
  }
  return undefined;
}

/** @returns the same services, each with its port. */
export function withMetrics(specs: readonly ServiceSpec[], first: number | undefined): ServiceSpec[] {
  // What the environment says of it would be the same port for all of them.
  if (first === undefined) return specs.map((spec) => ({ ...spec, env: { ...spec.env, AUTELLIX_METRICS_PORT: "" } }));
  return specs.map((spec, index) => ({
    ...spec,
    env: { ...spec.env, AUTELLIX_METRICS_PORT: String(first + index), AUTELLIX_METRICS_HOST: HOST },
  }));
}

/** `prometheus-targets.json` in the data folder, for `file_sd_configs`: a target for each service that has a port. */
export async function writeTargets(dataDir: string, specs: readonly ServiceSpec[]): Promise<void> {
  const file = join(dataDir, "prometheus-targets.json");
  const groups = specs.flatMap(({ kind, name, env }) => {
    const port = env.AUTELLIX_METRICS_PORT;
    return !port ? [] : [{ targets: [`${HOST}:${port}`], labels: { service: kind, instance: name } }];
  });
  if (groups.length === 0) {
    await rm(file, { force: true });
    return;
  }
  // By rename: Prometheus reads it when it changes.
  await writeFile(`${file}.new`, `${JSON.stringify(groups, undefined, 2)}\n`);
  await rename(`${file}.new`, file);
}
