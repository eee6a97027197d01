/** One arm of `bench:observability`: a system of its own under a load, watched or not. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ask, type Bus, openBus, subjects, viewPageSchema, WATCH_RENEW_MS } from "@autellix/protocol";
import { runClosedLoop } from "../closed-loop.ts";
import { type ProcessUse, useBetween } from "../processes.ts";
import { type Stack, startStack } from "../stack.ts";
import { quantile } from "../stats.ts";

const MODEL = "sim";
const SCRAPE_MS = 1_000;
/** Long enough for V8 to have compiled what plans: the first hundreds of plans take several times as long. */
const WARM_UP_MS = 6_000;
const PROBED_MS_MAX = 5_000;
const PROBE = join(import.meta.dirname, "probe.ts");

export interface ArmOptions {
  /** Metrics are scraped each second, and the pool is watched as a dashboard does. */
  watched: boolean;
  callers: number;
  tokens: number;
  durationMs: number;
  signal: AbortSignal;
}

/** What one process was seen to do. */
interface Probed {
  loopP50Ms: number;
  loopP99Ms: number;
  planMs: number[];
}

export interface Arm {
  watched: boolean;
  calls: number;
  perSecond: number;
  callP50Ms: number;
  callP99Ms: number;
  planP50Ms: number;
  planP99Ms: number;
  plans: number;
  /** By kind of service, the worst of its processes. */
  loopP99Ms: Record<string, number>;
  /** Of all services, for one call. */
  cpuMsPerCall: number;
  scrapes: number;
  /** Messages of changes that the watcher got. */
  changes: number;
}

export async function runArm(options: ArmOptions): Promise<Arm> {
  const { watched, callers, tokens, durationMs, signal } = options;
  const folder = await mkdtemp(join(tmpdir(), "autellix-probe-"));
  const probe = `${pathToFileURL(PROBE)}?folder=${folder}`;
  const stack = await startStack({
    args: ["--engine", "simulated", "--model", MODEL, "--preset", "a100-8b", "--log-level", "warn"],
    env: { NODE_OPTIONS: `--import=${probe}`, AUTELLIX_BATCH_CALLS_MAX: "8" },
    metrics: watched,
    signal,
  });
  const watcher = watched ? await watch(stack) : undefined;
  try {
    const load = (ms: number) =>
      runClosedLoop({
        url: `${stack.baseUrl}/v1`,
        callers,
        durationMs: ms,
        body: { messages: [{ role: "user", content: "What is tea?" }], max_tokens: tokens, stream: false },
        signal,
      });
    await load(WARM_UP_MS);
    const before = services(stack);
    for (const { pid } of before) process.kill(pid, "SIGUSR2");
    const run = await load(durationMs);
    const use = useBetween(before, services(stack));
    for (const { pid } of before) process.kill(pid, "SIGUSR2");
    const probed = await readProbes(folder, before);
    const callMs = run.callMs.sort((a, b) => a - b);
    const planMs = probed.flatMap(({ found }) => found.planMs).sort((a, b) => a - b);
    const loopP99Ms: Record<string, number> = {};
    for (const { name, found } of probed) {
      const kind = name.replace(/-sim-\d+$|-\d+$/, "");
      loopP99Ms[kind] = Math.max(loopP99Ms[kind] ?? 0, found.loopP99Ms);
    }
    return {
      watched,
      calls: run.completed,
      perSecond: run.perSecond,
      callP50Ms: quantile(callMs, 0.5),
      callP99Ms: quantile(callMs, 0.99),
      planP50Ms: quantile(planMs, 0.5),
      planP99Ms: quantile(planMs, 0.99),
      plans: planMs.length,
      loopP99Ms,
      cpuMsPerCall: use.reduce((sum, { cpuMs }) => sum + cpuMs, 0) / run.completed,
      scrapes: watcher?.scrapes() ?? 0,
      changes: watcher?.changes() ?? 0,
    };
  } finally {
    await watcher?.stop();
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function services(stack: Stack): ProcessUse[] {
  return stack.processes().filter(({ name }) => /^(scheduler|worker-agent|frontend)-/.test(name));
}

/** @throws Error when a service does not say what it has seen. */
async function readProbes(folder: string, of: readonly ProcessUse[]): Promise<{ name: string; found: Probed }[]> {
  const endMs = performance.now() + PROBED_MS_MAX;
  while ((await readdir(folder)).length < of.length) {
    if (performance.now() > endMs) throw new Error("a service did not say what its probe has seen");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const read = async ({ pid, name }: ProcessUse) => {
    const found = JSON.parse(await readFile(join(folder, `${pid}.json`), "utf8")) as Probed;
    return { name, found };
  };
  return await Promise.all(of.map(read));
}

/** What Prometheus and a dashboard ask of the system. */
async function watch(stack: Stack) {
  const groups = JSON.parse(await readFile(join(stack.dataDir, "prometheus-targets.json"), "utf8")) as {
    targets: string[];
  }[];
  const targets = groups.flatMap((group) => group.targets);
  let scrapes = 0;
  let changes = 0;
  const scrape = async (target: string) => {
    const response = await fetch(`http://${target}/metrics`);
    await response.text();
    if (response.ok) scrapes++;
  };
  const bus = await openBus({ url: stack.natsUrl, name: "bench:observability" });
  bus.nc.subscribe(subjects.events(MODEL), { callback: () => void changes++ });
  const failed = (error: unknown) => process.stderr.write(`${String(error)}\n`);
  const renew = () => watchPool(bus).catch(failed);
  await renew();
  const timers = [
    setInterval(() => void Promise.all(targets.map(scrape)).catch(failed), SCRAPE_MS),
    setInterval(() => void renew(), WATCH_RENEW_MS),
  ];
  return {
    scrapes: () => scrapes,
    changes: () => changes,
    async stop() {
      for (const timer of timers) clearInterval(timer);
      await bus.nc.close();
    },
  };
}

async function watchPool(bus: Bus): Promise<void> {
  const page = await ask(bus, subjects.view(MODEL), { op: "watch" }, viewPageSchema);
  if (!page) throw new Error("the leader does not answer a watch");
}
