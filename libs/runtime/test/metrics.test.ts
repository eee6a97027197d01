import { afterEach, describe, expect, it } from "vitest";
import { Buckets, Metrics, type MetricsServer, openMetricsServer, SAMPLES_MAX, Tally } from "../src/index.ts";

let server: MetricsServer | undefined;
afterEach(() => server?.close());

describe("metrics", () => {
  it("are read at the scrape, with the labels of their process", async () => {
    const metrics = new Metrics();
    metrics.label({ pool: "p" });
    let depth = 1;
    metrics.gauge("autellix_queue_calls", "Calls that wait.", () => [{ labels: { level: "1" }, value: depth }]);
    depth = 7;
    expect(await metrics.text()).toContain(
      '# HELP autellix_queue_calls Calls that wait.\n# TYPE autellix_queue_calls gauge\nautellix_queue_calls{level="1",pool="p"} 7',
    );
  });

  it("of a histogram are cumulative buckets, a sum and a count", async () => {
    const metrics = new Metrics();
    const buckets = new Buckets([1, 10]);
    for (const value of [0.5, 1, 2, 100]) buckets.add(value);
    metrics.histogram("autellix_call_seconds", "Calls.", () => [{ buckets }]);
    const lines = (await metrics.text()).split("\n").filter((line) => line.startsWith("autellix_call"));
    expect(lines).toEqual([
      'autellix_call_seconds_bucket{le="1"} 2',
      'autellix_call_seconds_bucket{le="10"} 3',
      'autellix_call_seconds_bucket{le="+Inf"} 4',
      "autellix_call_seconds_sum 103.5",
      "autellix_call_seconds_count 4",
    ]);
  });

  it("refuse names that break the rules", () => {
    const metrics = new Metrics();
    expect(() => metrics.counter("autellix_ends", "", () => 0)).toThrow(/_total/);
    expect(() => metrics.gauge("autellix_ends_total", "", () => 0)).toThrow(/_total/);
    expect(() => metrics.gauge("queue_calls", "", () => 0)).toThrow(/name/);
    metrics.gauge("autellix_calls", "", () => 0);
    expect(() => metrics.gauge("autellix_calls", "", () => 0)).toThrow(/already/);
  });

  it("never have more samples than a scrape may hold, and say so", async () => {
    const metrics = new Metrics();
    metrics.gauge("autellix_many", "", () =>
      Array.from({ length: SAMPLES_MAX + 5 }, (_, i) => ({ labels: { kind: String(i) }, value: i })),
    );
    expect((await metrics.text()).match(/^autellix_many\{/gm)).toHaveLength(SAMPLES_MAX);
    expect(await metrics.text()).toContain("autellix_metrics_cut_total 5");
  });
});

describe("a tally", () => {
  it("counts by words, and beyond its limit as other", () => {
    const tally = new Tally("status", "code");
    tally.add("failed", "expired");
    tally.add("failed", "expired");
    for (let i = 0; i < Tally.MAX + 10; i++) tally.add("failed", `code-${i}`);
    const samples = [...tally.samples()];
    expect(samples).toHaveLength(Tally.MAX + 1);
    expect(samples[0]).toEqual({ labels: { status: "failed", code: "expired" }, value: 2 });
    expect(samples.at(-1)).toEqual({ labels: { status: "other", code: "other" }, value: 11 });
  });
});

describe("the server of metrics", () => {
  it("answers /metrics, /healthz and /readyz, and nothing else", async () => {
    let reason: string | undefined = "NATS is not connected";
    server = await openMetricsServer({
      host: "127.0.0.1",
      port: 0,
      metrics: new Metrics(),
      unreadyReason: () => reason,
    });
    const url = `http://127.0.0.1:${server.port}`;
    const metrics = await fetch(`${url}/metrics`);
    expect(metrics.headers.get("content-type")).toMatch(/^text\/plain; version=0.0.4/);
    expect(await metrics.text()).toContain("autellix_metrics_cut_total 0");
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const unready = await fetch(`${url}/readyz`);
    expect([unready.status, await unready.json()]).toEqual([503, { status: "unready", reason }]);
    reason = undefined;
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect((await fetch(`${url}/else`)).status).toBe(404);
    expect((await fetch(`${url}/metrics`, { method: "POST" })).status).toBe(405);
  });

  it("says which port it cannot have", async () => {
    server = await openMetricsServer({
      host: "127.0.0.1",
      port: 0,
      metrics: new Metrics(),
      unreadyReason: () => undefined,
    });
    const second = openMetricsServer({
      host: "127.0.0.1",
      port: server.port,
      metrics: new Metrics(),
      unreadyReason: () => undefined,
    });
    await expect(second).rejects.toThrow(`cannot listen on 127.0.0.1:${server.port} for metrics: the port is in use`);
  });
});
