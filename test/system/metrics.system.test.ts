/**
 * Metrics against a real Prometheus: it scrapes every process of a real system, and each query of our dashboards and
 * rules is asked of it.
 */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { publishCall } from "@autellix/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { need } from "../engines/need.ts";
import { obtainPrometheus, promtool, type RunningPrometheus, startPrometheus } from "../equipment/prometheus.ts";
import { type Observer, openObserver } from "../support/observer.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";
import { comparedParts, dashboardQueries, type LoadedRules, metricsIn, type Query, ruleQueries } from "./queries.ts";

const INFRA = resolve(import.meta.dirname, "../../infra/prometheus");
const MODEL = "sim";
const SCRAPE_S = 1;
/** What Grafana would choose for this scrape interval, and then some: the load is short. */
const INTERVAL_S = 60;
const PROGRAMS = 10_000;
const MODELS = 1_000;
const IN_FLIGHT = 200;
/** Of one process; far more than there are now, far less than any of the names that clients send. */
const SERIES_MAX = 700;
/** New words (a status, a code) may come with a load, names may not. */
const NEW_SERIES_MAX = 60;
/** 10,000 calls on two busy cores. */
const WAIT_MS_MAX = 200_000;

const tools = await obtainPrometheus(process.env);
if ("missing" in tools) process.stdout.write(`${tools.missing}\n`);

let stack: TestStack;
let prometheus: RunningPrometheus;
let observer: Observer;

interface Target {
  health: string;
  lastError: string;
  scrapeUrl: string;
  labels: { instance: string; service: string };
}
interface Vector {
  result: { metric: Record<string, string>; value: [number, string] }[];
}

describe.skipIf("missing" in tools)("metrics", () => {
  beforeAll(async () => {
    stack = await startTestStack({
      models: [],
      engines: 2,
      frontends: 2,
      schedulers: 2,
      metrics: true,
      dashboard: true,
      args: ["--engine", "simulated", "--model", MODEL, "--preset", "a100-8b"],
      // Little room and short quanta: calls are demoted, preempted and swapped.
      env: {
        AUTELLIX_BATCH_CALLS_MAX: "8",
        AUTELLIX_RESIDENT_CALLS_MAX: "10",
        AUTELLIX_LADDER: "fixed",
        AUTELLIX_LADDER_FIRST_MS: "40",
        AUTELLIX_BETA: "2",
      },
    });
    observer = await openObserver(stack.natsUrl);
    prometheus = await startPrometheus(need(tools).prometheus, configOf(stack), process.env);
  });

  afterAll(async () => {
    await prometheus?.stop();
    await observer?.close();
    await stack?.stop();
  });

  test("of every process are scraped without an error, and promtool finds no fault in a page", async () => {
    await mixedLoad();
    const processes = stack.processes().filter(({ name }) => /-\d+$|^dashboard$/.test(name));
    expect(processes).toHaveLength(7);
    const targets = await until(async () => {
      const { activeTargets } = await prometheus.api<{ activeTargets: Target[] }>("targets");
      return activeTargets.length === processes.length && activeTargets.every(({ health }) => health === "up")
        ? activeTargets
        : undefined;
    });
    expect(targets.map(({ lastError }) => lastError)).toEqual(targets.map(() => ""));
    expect(targets.map(({ labels }) => labels.instance).sort()).toEqual(processes.map(({ name }) => name).sort());
    for (const { scrapeUrl } of targets) {
      const page = await (await fetch(scrapeUrl)).text();
      expect(await promtool(need(tools).promtool, ["check", "metrics"], process.env, page)).toBe("");
    }
  });

  test("have rules that promtool accepts", async () => {
    const config = join(INFRA, "prometheus.yml");
    expect(await promtool(need(tools).promtool, ["check", "config", config], process.env)).toMatch(
      /SUCCESS: 2 rule files/,
    );
    const tests = join(INFRA, "test", "alerts.yml");
    expect(await promtool(need(tools).promtool, ["test", "rules", tests], process.env)).toMatch(/SUCCESS/);
  });

  test("answer each query of dashboards and rules", async () => {
    await killLeader();
    await mixedLoad();
    await pause(4 * SCRAPE_S * 1_000); // two scrapes that the rules have seen, and one more
    const rules = await prometheus.api<LoadedRules>("rules");
    expect(rules.groups.flatMap(({ rules: all }) => all.filter(({ health }) => health !== "ok"))).toEqual([]);
    const queries = [...dashboardQueries(INTERVAL_S), ...ruleQueries(rules)];
    expect(queries.length).toBeGreaterThan(100);
    const known = await knownMetrics(rules);
    const faults: string[] = [];
    for (const query of queries) faults.push(...(await faultsOf(query, known)));
    expect(faults).toEqual([]);
  });

  test("stay few, however many names clients send", async () => {
    const before = await pages();
    await manyNames();
    const after = await pages();
    for (const [instance, page] of after) {
      const series = seriesOf(page);
      expect([instance, series.length < SERIES_MAX]).toEqual([instance, true]);
      expect([instance, series.length - seriesOf(before.get(instance) ?? "").length < NEW_SERIES_MAX]).toEqual([
        instance,
        true,
      ]);
      expect(page).not.toMatch(/many-|tenant-|model-|call-|odd/);
    }
    const [count] = (await query(`sum(autellix_programs)`)).result;
    expect(Number(count?.value[1])).toBeGreaterThanOrEqual(PROGRAMS);
  });
});

/** Our own configuration, with this system's file of targets and shorter intervals. */
function configOf({ dataDir }: TestStack): string {
  return readFileSync(join(INFRA, "prometheus.yml"), "utf8")
    .replaceAll("5s", `${SCRAPE_S}s`)
    .replace(/"\*\.rules\.yml"/, JSON.stringify(join(INFRA, "*.rules.yml")))
    .replace(/"[^"]*prometheus-targets\.json"/, JSON.stringify(join(dataDir, "prometheus-targets.json")));
}

async function post(frontend: number, body: object, fields: Record<string, string> = {}): Promise<number> {
  const headers = { "content-type": "application/json", ...fields };
  const url = `${stack.urls[frontend % stack.urls.length]}/v1/chat/completions`;
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  await response.text();
  return response.status;
}

/** Programs of several calls, one of them long; refusals, a cancel, an expiry, bad headers on the queue. */
async function mixedLoad(): Promise<void> {
  const content = "Say something about the harbour. ".repeat(40);
  const program = async (name: string, calls: number, tokens: number) => {
    for (let i = 0; i < calls; i++) {
      const body = { model: MODEL, messages: [{ role: "user", content }], max_tokens: tokens, stream: i % 2 === 0 };
      expect(await post(i, body, { "Autellix-Program-Id": name })).toBe(200);
    }
    await fetch(`${stack.urls[0]}/v1/programs/${name}`, { method: "DELETE" });
  };
  const unique = Math.random().toString(36).slice(2);
  const programs = Array.from({ length: 40 }, (_, i) => program(`mix-${unique}-${i}`, 3, i % 10 === 0 ? 300 : 20));
  const bad = publishCall(observer.bus, {
    address: { pool: MODEL, tenant: "default", callId: `bad-${unique}` },
    body: Buffer.from("{}"),
    fields: { "Autellix-Reply": "$KV.elsewhere" },
  });
  const expired = post(
    0,
    { model: MODEL, messages: [{ role: "user", content }], max_tokens: 2_000 },
    { "Autellix-Deadline-Ms": "200" },
  );
  expect(await post(1, { model: "nobody's", messages: [{ role: "user", content }] })).toBe(404);
  expect((await expired) >= 400).toBe(true);
  await Promise.all([...programs, bad]);
}

/** 10,000 programs of 200 tenants on the queue, 1,000 models, unknown paths and odd headers over HTTP. */
async function manyNames(): Promise<void> {
  const body = Buffer.from(JSON.stringify({ messages: [{ role: "user", content: "hi" }], max_tokens: 1 }));
  await pooled(PROGRAMS, async (i) => {
    const address = { pool: MODEL, tenant: `tenant-${i % 200}`, callId: `call-${i}` };
    const fields = { "Autellix-Program-Id": `many-${i}`, "Autellix-Thread-Id": `odd-${i}` };
    expect((await publishCall(observer.bus, { address, body, fields })).kind).toBe("accepted");
  });
  await pooled(MODELS, async (i) => {
    const message = { model: `model-${i}`, messages: [{ role: "user", content: "hi" }] };
    expect(await post(i, message, { "Autellix-Program-Id": `many-${i}`, [`x-odd-${i}`]: `odd ${i}` })).toBe(404);
    await (await fetch(`${stack.urls[0]}/odd/${i}`)).text();
  });
  await until(async () => ((await observer.queuedCalls()) === 0 ? true : undefined));
  await pause(2 * SCRAPE_S * 1_000);
}

async function pooled(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < count; i = next++) await work(i);
  };
  await Promise.all(Array.from({ length: Math.min(count, IN_FLIGHT) }, worker));
}

/** The standby takes over; calls get further attempts. */
async function killLeader(): Promise<void> {
  const leaders = async () => (await query("autellix_leader == 1")).result.map(({ metric }) => metric.instance);
  const [leader] = await until(async () => ((await leaders()).length === 1 ? leaders() : undefined));
  const pid = stack.processes().find(({ name }) => name === leader)?.pid;
  expect(pid).toBeDefined();
  const load = mixedLoad();
  await pause(300);
  if (pid !== undefined) process.kill(pid, "SIGKILL");
  await load;
  await until(async () => {
    const [now] = await leaders();
    return now !== undefined && now !== leader ? now : undefined;
  });
}

async function query(expr: string): Promise<Vector> {
  return await prometheus.api<Vector>("query", { query: expr });
}

/** A Prometheus that has just started has no past: a query about it is asked of now. */
const PAST = / offset \d+[smh]/g;

/** Every metric that a process declares, with or without samples now, and every recorded one. */
async function knownMetrics({ groups }: LoadedRules): Promise<Set<string>> {
  const declared = [...(await pages()).values()].flatMap((page) =>
    [...page.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = "", type]) =>
      type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
  const recorded = groups.flatMap(({ rules }) => rules.filter(({ type }) => type === "recording"));
  return new Set(["up", ...declared, ...recorded.map(({ name }) => name)]);
}

async function faultsOf({ where, expr }: Query, known: ReadonlySet<string>): Promise<string[]> {
  const names = metricsIn(expr);
  const unknown = names.filter((name) => !known.has(name));
  if (names.length === 0) return [`${where}: names no metric`];
  if (unknown.length > 0) return [`${where}: there is no ${unknown.join(", ")}`];
  const faults: string[] = [];
  for (const part of comparedParts(expr)) {
    try {
      const { result } = await query(part.replaceAll(PAST, ""));
      if (!result.some(({ value }) => value[1] !== "NaN")) faults.push(`${where}: no data for ${part}`);
    } catch (error) {
      faults.push(`${where}: ${error instanceof Error ? error.message : String(error)} (${part})`);
    }
  }
  return faults;
}

async function pages(): Promise<Map<string, string>> {
  const { activeTargets } = await prometheus.api<{ activeTargets: Target[] }>("targets");
  const texts = activeTargets.map(
    async ({ labels, scrapeUrl }) => [labels.instance, await (await fetch(scrapeUrl)).text()] as const,
  );
  return new Map(await Promise.all(texts));
}

function seriesOf(page: string): string[] {
  return page.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

async function until<T>(read: () => Promise<T | undefined>): Promise<T> {
  const endMs = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const value = await read();
    if (value !== undefined) return value;
    if (performance.now() > endMs) throw new Error(`nothing came within ${WAIT_MS_MAX} ms`);
    await pause(200);
  }
}
