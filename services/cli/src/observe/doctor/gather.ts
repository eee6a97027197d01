/** Asks NATS, the leaders, every process and monitoring ports what the rules judge by. Nothing is changed. */
import { hostname } from "node:os";
import {
  AutellixError,
  askView,
  type Bus,
  CALLS_STREAM,
  gatherFacts,
  type HeardFacts,
  type Inspection,
  inspect,
  listPools,
  openBus,
  POOLS_STREAM,
  type ViewEngine,
} from "@autellix/protocol";
import { z } from "zod";
import { unknownPool } from "../listing.ts";
import { shownUrl } from "../nats.ts";
import type { Evidence, Finding, PoolSeen, SyncSeen } from "./evidence.ts";
import { serverFindings, wrong } from "./nats-rules.ts";

const CONNECT_MS_MAX = 4_000;
const SERVERS_MS = 400;
/** Agents look at their servers for some time before they answer. */
const FACTS_MS = 1_500;
/** A leader that is busy, or one that is just taking over. */
const LEADER_MS_MAX = 5_000;
const LEADER_PAUSE_MS = 300;
const HTTP_MS_MAX = 2_000;
const MONITOR_PORT = 8_222;
const NANOS_PER_MS = 1_000_000;

export interface DoctorOptions {
  url: string;
  /** Only these; default: all. */
  pools: readonly string[];
  /** Monitoring ports of nats-servers: `http://host:8222`. */
  monitors: readonly string[];
}

/** @returns the evidence, or why nothing more can be looked at. */
export async function gather(options: DoctorOptions): Promise<{ evidence: Evidence } | { findings: Finding[] }> {
  const url = shownUrl(options.url);
  let inspection: Inspection;
  try {
    inspection = await inspect(options.url, "autellix doctor", CONNECT_MS_MAX);
  } catch (error) {
    if (!(error instanceof AutellixError)) throw error;
    return {
      findings: [wrong("nats.reachable", `${error.message}: start nats-server, or say with --nats where it is`)],
    };
  }
  try {
    const servers = await inspection.servers(SERVERS_MS);
    const { server } = inspection;
    const apiLevel = await inspection.apiLevel();
    const unfit = serverFindings({ url, server, servers, apiLevel });
    if (unfit.some(({ level }) => level === "wrong")) return { findings: unfit };
    const streams = await inspection.streams();
    return { evidence: await gatherAll(options, inspection, { servers, apiLevel, streams }) };
  } catch (error) {
    if (!(error instanceof Error) || error instanceof TypeError) throw error;
    if (/permissions violation/i.test(error.message)) {
      const text = `the user that doctor has at ${url} may not look (${error.message}): give it the permissions of a looker (docs/OPERATIONS.md)`;
      return { findings: [wrong("nats.permissions", text)] };
    }
    const text = `JetStream of nats-server at ${url} does not answer (${error.message}): see its log; a cluster needs more than half of its servers`;
    return { findings: [wrong("nats.jetstream", text)] };
  } finally {
    await inspection.close();
  }
}

async function gatherAll(
  options: DoctorOptions,
  inspection: Inspection,
  seen: Pick<Evidence, "servers" | "apiLevel" | "streams">,
): Promise<Evidence> {
  const { streams } = seen;
  const bus = await openBus({ url: options.url, name: "autellix doctor", connectTimeoutMs: CONNECT_MS_MAX });
  try {
    const invalid: string[] = [];
    const names = streams.get(POOLS_STREAM) ? await listPools(bus) : [];
    const unknown = options.pools.filter((pool) => !names.includes(pool));
    const unknownPools = unknown.map((pool) => unknownPool(pool, names));
    const wanted = options.pools.length > 0 ? options.pools.filter((pool) => names.includes(pool)) : names;
    const [facts, pools, sync] = await Promise.all([
      gatherFacts(bus, FACTS_MS, (text) => invalid.push(text)),
      Promise.all(wanted.map((pool) => poolOf(bus, inspection, pool, streams.get(CALLS_STREAM) !== undefined))),
      syncOf(options.monitors, inspection.server.addresses),
    ]);
    const frontendsSilent = await silentFrontends(facts);
    const { server } = inspection;
    return { url: shownUrl(options.url), server, ...seen, sync, facts, pools, unknownPools, frontendsSilent, invalid };
  } finally {
    await bus.nc.close();
  }
}

async function poolOf(bus: Bus, inspection: Inspection, pool: string, hasQueue: boolean): Promise<PoolSeen> {
  const untilMs = performance.now() + LEADER_MS_MAX;
  do {
    const engines: ViewEngine[] = [];
    const askedAtMs = Date.now();
    const first = await askView(bus, pool, { op: "page", what: "engines" });
    if (first) {
      const heardAtMs = Date.now();
      let page: typeof first | undefined = first;
      while (page) {
        engines.push(...(page.engines ?? []));
        page =
          page.next === undefined
            ? undefined
            : await askView(bus, pool, { op: "page", what: "engines", from: page.next });
      }
      return { pool, leader: { view: first.pool, engines, atMs: first.atMs, askedAtMs, heardAtMs }, waitingCalls: 0 };
    }
    await new Promise((resolve) => setTimeout(resolve, LEADER_PAUSE_MS));
  } while (performance.now() < untilMs);
  return { pool, leader: undefined, waitingCalls: hasQueue ? await inspection.queuedCalls(pool) : 0 };
}

const varzSchema = z.object({
  server_name: z.string(),
  jetstream: z.object({
    config: z.object({ sync_interval: z.number().optional(), sync_always: z.boolean().optional() }).optional(),
  }),
});

/** Monitoring ports that were named, and the usual one of each server's host; most servers have none. */
async function syncOf(monitors: readonly string[], addresses: readonly string[]): Promise<SyncSeen[]> {
  const hosts = [...new Set(addresses.map((address) => address.replace(/:\d+$/, "")))];
  const urls = [...monitors, ...hosts.map((host) => `http://${host}:${MONITOR_PORT}`)];
  const seen = await Promise.all(urls.map(async (url) => await syncAt(url)));
  const byName = new Map(seen.filter((one) => one !== undefined).map((one) => [one.name, one]));
  return [...byName.values()];
}

async function syncAt(url: string): Promise<SyncSeen | undefined> {
  try {
    const reply = await fetch(new URL("/varz", url), { signal: AbortSignal.timeout(HTTP_MS_MAX) });
    const { server_name: name, jetstream } = varzSchema.parse(await reply.json());
    const { sync_interval: nanos = 0, sync_always: syncAlways = false } = jetstream.config ?? {};
    return { url, name, syncAlways, syncIntervalMs: nanos / NANOS_PER_MS };
  } catch {
    // No monitoring port there, or none of nats-server: the rule says what could not be seen.
    return undefined;
  }
}

async function silentFrontends(facts: readonly HeardFacts[]): Promise<string[]> {
  const local = facts.filter(({ facts: one }) => one.http !== undefined && one.host === hostname());
  const silent = await Promise.all(
    local.map(async ({ facts: { http } }) => {
      const host = http?.host === "0.0.0.0" || http?.host === "::" ? "127.0.0.1" : (http?.host ?? "");
      const address = `${host.includes(":") ? `[${host}]` : host}:${http?.port}`;
      try {
        await fetch(`http://${address}/healthz`, { signal: AbortSignal.timeout(HTTP_MS_MAX) });
        return undefined;
      } catch {
        // In another container of this name its loopback address is not ours: only NATS could tell, and it did.
        return address;
      }
    }),
  );
  return silent.filter((address) => address !== undefined);
}
