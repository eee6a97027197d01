import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { METRICS_PORT_FIRST, metricsPort, withMetrics, writeTargets } from "../src/start/metrics-ports.ts";
import type { ServiceSpec } from "../src/start/services.ts";

const options = { metricsPort: undefined, port: 8_080, frontends: 2, natsPort: 4_222 };
const free = async () => true;

describe("the ports of metrics", () => {
  it("begin where exporters' do, or behind what is in use there", async () => {
    expect(await metricsPort(options, 5, free)).toBe(METRICS_PORT_FIRST);
    const used = METRICS_PORT_FIRST + 3;
    expect(await metricsPort(options, 5, async (port) => port !== used)).toBe(used + 1);
  });

  it("are none of the other ports that the start is about to use", async () => {
    const port = METRICS_PORT_FIRST + 1;
    expect(await metricsPort({ ...options, port }, 5, free)).toBe(port + 2);
  });

  it("are those that were named, or none", async () => {
    expect(await metricsPort({ ...options, metricsPort: 12_000 }, 5, free)).toBe(12_000);
    expect(await metricsPort({ ...options, metricsPort: "off" }, 5, free)).toBeUndefined();
    expect(await metricsPort(options, 5, async () => false)).toBeUndefined();
  });

  it("are told to the services and to Prometheus", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "autellix-test-"));
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
    const spec = (kind: ServiceSpec["kind"], name: string): ServiceSpec => ({ kind, name, module: "", env: {} });
    const specs = withMetrics([spec("scheduler", "scheduler-tiny-0"), spec("frontend", "frontend-0")], 9_464);
    expect(specs.map(({ env }) => env.AUTELLIX_METRICS_PORT)).toEqual(["9464", "9465"]);
    await writeTargets(dataDir, specs);
    expect(JSON.parse(await readFile(join(dataDir, "prometheus-targets.json"), "utf8"))).toEqual([
      { targets: ["127.0.0.1:9464"], labels: { service: "scheduler", instance: "scheduler-tiny-0" } },
      { targets: ["127.0.0.1:9465"], labels: { service: "frontend", instance: "frontend-0" } },
    ]);
    const off = withMetrics([spec("frontend", "frontend-0")], undefined);
    // What the environment of npm start says would be one port for all.
    expect(off.map(({ env }) => env.AUTELLIX_METRICS_PORT)).toEqual([""]);
    await writeTargets(dataDir, off);
    await expect(readFile(join(dataDir, "prometheus-targets.json"))).rejects.toThrow(/ENOENT/);
  });
});
