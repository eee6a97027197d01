/**
 * `npm run bench:dashboard`: what the dashboard and a browser that shows it cost. A leader that only shows tells of a pool
 * with many programs over a real nats-server; the dashboard is a process of its own, the page is in a real Chromium. The
 * CPU of the leader, of nats-server and of the measurement is not counted.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { openBus } from "@autellix/protocol";
import { obtainNatsServer, startNatsServer } from "@autellix/runtime";
import { closeLine, say, showStatus } from "./console.ts";
import { findChromium, type MeasuredPage, openPage, type PageStats } from "./dashboard-bench/browser.ts";
import { FakeLeader } from "./dashboard-bench/fake-leader.ts";
import { runInterruptible } from "./ending.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { parseFlags, whole } from "./options.ts";
import { type ProcessUse, readProcesses, useBetween } from "./processes.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";
import { median } from "./stats.ts";

const DASHBOARD = resolve(import.meta.dirname, "../../services/dashboard/src/main.ts");
const ENGINES = 8;
const BATCH = 16;
const STEP_MS = 5_000;
const COLUMNS = ["program", "level", "attained", "service", "waited", "ended", "last"];
const SORT_PAUSE_MS = 500;
const START_MS_MAX = 60_000;
const MESSAGES_WANTED = 10;
const DRAWS_WANTED = 10;
const CORES_WANTED = 0.5;
const SORT_MS_WANTED = 200;
/** Of the heap after collections, from the beginning to the end. What moves by less is noise of the collector. */
const GROWTH_WANTED = 0.1;

const HELP = `npm run bench:dashboard -- [options]
  --programs N    in the process table (default 10000)
  --changes N     calls that come, move or end per second (default 200)
  --warm-up N     seconds before it: timeline and curves hold five minutes, and grow until then (default 330)
  --seconds N     of the measurement (default 60)
  --seed N        (default 1)
  --out FOLDER    (default load-tests/results)
`;

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", short: "h" } as const;
  const given = parseFlags(args, {
    programs: text,
    changes: text,
    "warm-up": text,
    seconds: text,
    seed: text,
    out: text,
    help: flag,
  });
  if (given.help) {
    process.stdout.write(HELP);
    return;
  }
  const load = {
    programs: whole("programs", given.programs, 10_000, 1, 20_000),
    changesPerS: whole("changes", given.changes, 200, 1, 2_000),
    warmUpSeconds: whole("warm-up", given["warm-up"], 330, 1, 3_600),
    seconds: whole("seconds", given.seconds, 60, 5, 3_600),
    seed: whole("seed", given.seed, 1, 0, 2 ** 31),
    engines: ENGINES,
    batchCallsMax: BATCH,
  };
  const measured = await measure(load, signal);
  closeLine();
  const findings = verdict(measured);
  const summary = findings.map(({ text, isGood }) => `${isGood ? "ok  " : "MISS"} ${text}`).join("\n");
  const machine = await describeMachine(commandLine("bench:dashboard", args));
  const report = { name: "bench-dashboard", machine, load, ...measured };
  const folder = await writeReport(given.out ?? RESULTS_FOLDER, report, summary, {});
  console.log(`${summary}\n\nwritten to ${folder}`);
  if (findings.some(({ isGood }) => !isGood)) process.exitCode = 1;
}

interface Load {
  programs: number;
  changesPerS: number;
  warmUpSeconds: number;
  seconds: number;
  seed: number;
  engines: number;
  batchCallsMax: number;
}

interface Measured {
  seconds: number;
  changesPerS: number;
  messagesPerS: number;
  drawsPerS: number;
  /** Shots after the first one: what a page that is too slow gets. */
  shots: number;
  sorts: number;
  /** All of them, also those once a second. */
  sortMsMax: number;
  askedSortsMs: number[];
  /** CPU seconds per second. */
  cores: { dashboard: number; browser: number };
  heapBytes: number[];
  /** Of the dashboard. */
  rssBytes: { first: number; last: number };
}

async function measure(load: Load, signal: AbortSignal): Promise<Measured> {
  const bin = await findChromium(process.env);
  const folder = await mkdtemp(join(tmpdir(), "autellix-bench-dashboard-"));
  const { path } = await obtainNatsServer({ env: process.env, signal });
  const nats = await startNatsServer({ bin: path, port: await freePort(), dataDir: folder, env: process.env });
  const bus = await openBus({ url: nats.url, name: "bench:dashboard" });
  const leader = new FakeLeader({ ...load, bus, pool: "bench" });
  const port = await freePort();
  const env = { ...process.env, AUTELLIX_NATS_URL: nats.url, AUTELLIX_PORT: String(port), AUTELLIX_LOG_LEVEL: "warn" };
  // The channel closes with this process, however it ends: the dashboard then stops by itself.
  const dashboard = spawn(process.execPath, [DASHBOARD], { env, stdio: ["ignore", 2, 2, "ipc"] });
  let page: MeasuredPage | undefined;
  try {
    const url = `http://127.0.0.1:${port}`;
    await untilReady(url, signal);
    say(
      `${load.programs} programs, ${load.changesPerS} changes/s, for ${load.seconds} s after ${load.warmUpSeconds} s`,
    );
    page = await openPage(bin, url);
    await page.wait(".chip.slot", START_MS_MAX);
    await pause(load.warmUpSeconds * 1_000, undefined, { signal });
    return await observe(page, leader, dashboard.pid ?? -1, load, signal);
  } finally {
    await page?.close();
    if (dashboard.exitCode === null && dashboard.kill()) await once(dashboard, "exit");
    leader.stop();
    await bus.nc.close();
    await nats.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function observe(
  page: MeasuredPage,
  leader: FakeLeader,
  pid: number,
  load: Load,
  signal: AbortSignal,
): Promise<Measured> {
  // Each column in both directions: what a person waits for.
  for (const column of COLUMNS) {
    for (let i = 0; i < 2; i++) {
      await page.click(`[role=columnheader].${column} button`);
      await pause(SORT_PAUSE_MS, undefined, { signal });
    }
  }
  const use = () => ({ dashboard: readProcesses(pid), browser: page.processes() });
  const heapBytes = [await page.heapBytes()];
  const [stats, before, changes, began] = [await page.stats(), use(), leader.changes, performance.now()];
  while (performance.now() - began < load.seconds * 1_000) {
    await pause(STEP_MS, undefined, { signal });
    showStatus(`${Math.round((performance.now() - began) / 1_000)} s`);
  }
  const seconds = (performance.now() - began) / 1_000;
  const [after, last] = [use(), await page.stats()];
  heapBytes.push(await page.heapBytes());
  const cores = (from: readonly ProcessUse[], to: readonly ProcessUse[]) =>
    useBetween(from, to).reduce((sum, { cpuMs }) => sum + cpuMs, 0) / 1_000 / seconds;
  const perS = (what: (stats: PageStats) => number) => (what(last) - what(stats)) / seconds;
  return {
    seconds,
    changesPerS: (leader.changes - changes) / seconds,
    messagesPerS: perS(({ messages }) => messages),
    drawsPerS: perS(({ draws }) => draws),
    shots: last.shots - stats.shots,
    sorts: last.sorts,
    sortMsMax: last.sortMsMax,
    askedSortsMs: last.askedSortsMs,
    cores: { dashboard: cores(before.dashboard, after.dashboard), browser: cores(before.browser, after.browser) },
    heapBytes,
    rssBytes: { first: memory(before.dashboard), last: memory(after.dashboard) },
  };
}

function memory(processes: readonly ProcessUse[]): number {
  return processes.reduce((sum, { rssBytes }) => sum + rssBytes, 0);
}

function verdict(measured: Measured): { text: string; isGood: boolean }[] {
  const { messagesPerS, drawsPerS, sortMsMax, askedSortsMs, sorts, cores, heapBytes, changesPerS, rssBytes } = measured;
  const all = cores.dashboard + cores.browser;
  const [first = Number.NaN, last = Number.NaN] = heapBytes;
  const growth = last / first - 1;
  const slowest = Math.max(...askedSortsMs);
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  return [
    {
      text: `${changesPerS.toFixed(0)} changes/s in ${messagesPerS.toFixed(1)} messages/s (wanted: ≤ ${MESSAGES_WANTED})`,
      isGood: messagesPerS <= MESSAGES_WANTED,
    },
    { text: `${drawsPerS.toFixed(1)} draws/s (wanted: ≤ ${DRAWS_WANTED})`, isGood: drawsPerS <= DRAWS_WANTED },
    {
      text: `${all.toFixed(2)} cores: dashboard ${cores.dashboard.toFixed(2)}, browser ${cores.browser.toFixed(2)} (wanted: < ${CORES_WANTED})`,
      isGood: all < CORES_WANTED,
    },
    {
      text: `sorting all programs when a column was clicked took at most ${slowest.toFixed(0)} ms, ${median(askedSortsMs).toFixed(0)} at the median of ${askedSortsMs.length} (wanted: ≤ ${SORT_MS_WANTED}); of ${sorts} sorts, also those once a second, at most ${sortMsMax.toFixed(0)} ms`,
      isGood: slowest <= SORT_MS_WANTED,
    },
    {
      text: `the page's heap went from ${mb(first)} to ${mb(last)} (wanted: growth ≤ ${100 * GROWTH_WANTED} %); the dashboard's memory from ${mb(rssBytes.first)} to ${mb(rssBytes.last)}`,
      isGood: growth <= GROWTH_WANTED,
    },
  ];
}

async function untilReady(url: string, signal: AbortSignal): Promise<void> {
  const until = performance.now() + START_MS_MAX;
  for (;;) {
    const isReady = await fetch(`${url}/healthz`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isReady) return;
    if (performance.now() > until) throw new Error(`the dashboard is not ready after ${START_MS_MAX} ms`);
    await pause(100, undefined, { signal });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no TCP port");
  return address.port;
}

await runInterruptible(main, "npm run bench:dashboard");
