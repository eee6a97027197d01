/**
 * CPU time and memory of a process and all below it, from `/proc`. On systems without it the lists are empty.
 */
import { readdirSync, readFileSync } from "node:fs";

export interface ProcessUse {
  pid: number;
  /** `frontend-0`, `nats-server`, … */
  name: string;
  /** User and system time since its start, ms. */
  cpuMs: number;
  /** Resident memory. */
  rssBytes: number;
}

/** Linux reports times in 1/100 s to user space on every architecture that Node runs on. */
const CPU_TICK_MS = 10;
const PAGE_BYTES = 4_096;
const SERVICES = ["frontend", "scheduler", "worker-agent", "dashboard", "cli"];

interface Stat {
  pid: number;
  parent: number;
  cpuMs: number;
  rssBytes: number;
}

/** `root` and its descendants, by pid. */
export function readProcesses(root: number): ProcessUse[] {
  const stats = readAllStats();
  const children = Map.groupBy(stats, (stat) => stat.parent);
  const tree: Stat[] = [];
  const waiting = stats.filter((stat) => stat.pid === root);
  for (let stat = waiting.pop(); stat; stat = waiting.pop()) {
    tree.push(stat);
    waiting.push(...(children.get(stat.pid) ?? []));
  }
  return tree
    .sort((a, b) => a.pid - b.pid)
    .map(({ pid, cpuMs, rssBytes }) => ({ pid, name: nameOf(pid), cpuMs, rssBytes }));
}

/** What each process used between two readings; one that was not there before counts from its start. */
export function useBetween(before: readonly ProcessUse[], after: readonly ProcessUse[]): ProcessUse[] {
  const earlier = new Map(before.map((use) => [use.pid, use.cpuMs]));
  return after.map((use) => ({ ...use, cpuMs: use.cpuMs - (earlier.get(use.pid) ?? 0) }));
}

/** This process, measured the same way: the generator's own share. */
export function ownUse(): ProcessUse {
  const { user, system } = process.cpuUsage();
  return {
    pid: process.pid,
    name: "load generator",
    cpuMs: (user + system) / 1_000,
    rssBytes: process.memoryUsage.rss(),
  };
}

function readAllStats(): Stat[] {
  let pids: string[];
  try {
    pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  } catch {
    return []; // no /proc on this system
  }
  return pids.flatMap((pid) => {
    const text = readProc(pid, "stat");
    if (text === undefined) return [];
    // The name in parentheses may hold spaces; fields are counted from behind it.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [, parent = "0"] = fields;
    const cpuMs = (Number(fields[11]) + Number(fields[12])) * CPU_TICK_MS;
    return [{ pid: Number(pid), parent: Number(parent), cpuMs, rssBytes: Number(fields[21]) * PAGE_BYTES }];
  });
}

function nameOf(pid: number): string {
  const words = (readProc(String(pid), "cmdline") ?? "").split("\0").filter((word) => word !== "");
  const instance = /(?:^|\0)AUTELLIX_INSTANCE=([^\0]*)/.exec(readProc(String(pid), "environ") ?? "")?.[1];
  const service = SERVICES.find((name) => words.some((word) => word.includes(`services/${name}/`)));
  if (service && service !== "cli") return instance ?? service;
  if (service || words.some((word) => word.endsWith("start.mjs"))) return "supervisor";
  return words[0]?.split("/").at(-1) ?? `pid ${pid}`;
}

function readProc(pid: string, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return undefined; // it ended meanwhile
  }
}
