/** What the processes of the system must be to each other. */
import type { Facts, HeardFacts } from "@autellix/protocol";
import type { Evidence, Finding } from "./evidence.ts";
import { ok, wrong } from "./nats-rules.ts";

/** More than NTP leaves, less than makes a trace unreadable. */
export const CLOCKS_APART_MS_MAX = 1_000;
const HOST_KV_DEFAULT = "the default";

export function leaderFindings({ pools, facts }: Evidence): Finding[] {
  const findings: Finding[] = [];
  const someLead = pools.some(({ leader }) => leader);
  for (const { pool, leader, waitingCalls } of pools) {
    if (leader) {
      const { view, engines } = leader;
      if (engines.length === 0) {
        findings.push(
          wrong(
            "pool.engines",
            `pool ${pool} has no engine, so its calls wait: start a worker agent with AUTELLIX_POOL=${pool}, or see in its log why it does not join`,
            pool,
          ),
        );
      } else if (!view.dispatching) {
        findings.push(
          wrong(
            "pool.dispatching",
            `pool ${pool} starts no new calls (${view.reason ?? "no reason given"}): make room in AUTELLIX_OUTCOMES, or raise its max_bytes`,
            pool,
          ),
        );
      } else {
        const suspects = engines.filter(({ state }) => state === "suspect").length;
        findings.push(
          ok(
            "pool.leader",
            `pool ${pool} is led by ${view.leader} (epoch ${view.epoch}), ${engines.length} engine${engines.length === 1 ? "" : "s"}${suspects > 0 ? `, ${suspects} of them silent` : ""}`,
          ),
        );
        for (const { engine, state } of engines) {
          if (state === "suspect")
            findings.push(
              wrong(
                "engine.silent",
                `engine ${engine} of pool ${pool} has not been heard for seconds: see whether its worker agent lives and reaches NATS`,
                engine,
              ),
            );
        }
      }
      continue;
    }
    const agents = facts.filter(({ facts: f }) => f.service === "worker-agent" && f.pool === pool).length;
    const standbys = facts.filter(({ facts: f }) => f.service === "scheduler" && f.pool === pool).length;
    if (agents + standbys + waitingCalls === 0 && someLead) {
      findings.push({
        check: "pool.leader",
        level: "note",
        subject: pool,
        text: `Pool ${pool} has no leader, no agent and no call: nobody uses it any more.`,
      });
      continue;
    }
    const waiting = waitingCalls > 0 ? ` and its ${waitingCalls} calls wait` : "";
    const how =
      standbys > 0
        ? `${standbys} scheduler${standbys === 1 ? " is" : "s are"} there and may be taking over, so try again in 20 s, then see their logs`
        : `start a scheduler with AUTELLIX_POOL=${pool}`;
    findings.push(
      wrong("pool.leader", `pool ${pool} has no leader, so nobody plans its calls${waiting}: ${how}`, pool),
    );
  }
  return findings;
}

export function frontendFindings({ facts, frontendsSilent, pools }: Evidence): Finding[] {
  const frontends = facts.filter((heard) => heard.facts.service === "frontend");
  if (frontends.length === 0) {
    if (pools.length === 0) return [];
    return [
      wrong(
        "frontend.none",
        "no frontend answers, so HTTP clients cannot call: start one (npm start has two), or see in its log why it does not reach NATS",
      ),
    ];
  }
  const silent = frontendsSilent.map((address) =>
    wrong(
      "frontend.http",
      `the frontend at ${address} is on NATS but does not answer HTTP requests: see its log, and restart it`,
      address,
    ),
  );
  return silent.length > 0
    ? silent
    : [ok("frontend.answers", frontends.length === 1 ? "1 frontend answers" : `${frontends.length} frontends answer`)];
}

/** Each process, server and leader against the server that doctor is connected to. */
export function clockFindings({ servers, facts, pools }: Evidence): Finding[] {
  const [reference] = servers;
  if (!reference) return [];
  const base = offset(reference.atMs, reference);
  const apart = new Map<string, { who: string[]; byMs: number }>();
  const add = (host: string, who: string, byMs: number) => {
    if (Math.abs(byMs) <= CLOCKS_APART_MS_MAX) return;
    const known = apart.get(host) ?? { who: [], byMs };
    if (who !== "") known.who.push(who);
    apart.set(host, known);
  };
  for (const server of servers.slice(1)) add(`nats-server ${server.name}`, "", offset(server.atMs, server) - base);
  for (const heard of facts) {
    const { host, pid } = heard.facts;
    const byMs = offset(heard.facts.atMs, heard) - base;
    // Processes of one host have one clock, unless somebody gave one of them another.
    add(`host ${host} by ${Math.round(byMs / CLOCKS_APART_MS_MAX)}`, `${nameOf(heard.facts)} (process ${pid})`, byMs);
  }
  for (const { pool, leader } of pools) {
    if (leader) add(`leader of pool ${pool}`, "", offset(leader.atMs, leader) - base);
  }
  const findings = [...apart].map(([key, { who, byMs }]) => {
    const host = key.replace(/ by -?\d+$/, "");
    const of = who.length > 0 ? `${host} (${who.slice(0, 4).join(", ")}${who.length > 4 ? ", …" : ""})` : host;
    const text = `the clock of ${of} is ${(Math.abs(byMs) / 1_000).toFixed(1)} s ${byMs > 0 ? "ahead of" : "behind"} that of nats-server ${reference.name}, so traces, logs and deadlines do not fit together: set it by NTP`;
    return wrong("clocks", text, host);
  });
  return findings.length > 0
    ? findings
    : [
        ok(
          "clocks",
          `the clocks of ${servers.length + facts.length} processes are within ${CLOCKS_APART_MS_MAX / 1_000} s of each other`,
        ),
      ];
}

function offset(atMs: number, { askedAtMs, heardAtMs }: { askedAtMs: number; heardAtMs: number }): number {
  // An answer that took time was written somewhere in between.
  if (atMs < askedAtMs) return atMs - askedAtMs;
  return Math.max(0, atMs - heardAtMs);
}

export function versionFindings({ facts }: Evidence): Finding[] {
  const versions = new Map<string, Set<string>>();
  for (const { facts: one } of facts) {
    const version = `${one.version} (protocol ${one.protocol})`;
    versions.set(version, (versions.get(version) ?? new Set()).add(one.service));
  }
  if (versions.size < 2) return [];
  const list = [...versions].map(([version, services]) => `${version}: ${[...services].sort().join(", ")}`).join("; ");
  return [
    wrong("versions", `processes of several versions run together (${list}): finish the upgrade, schedulers first`),
  ];
}

export function engineFindings({ facts }: Evidence): Finding[] {
  const agents = facts.filter((heard) => heard.facts.engine !== undefined);
  const findings = [
    ...duplicates(agents),
    ...agents.flatMap(({ facts: one }) => slotFindings(one)),
    ...memoryFindings(agents),
  ];
  return findings.length > 0 || agents.length === 0
    ? findings
    : [ok("engines", `${agents.length} worker agent${agents.length === 1 ? "" : "s"}: ids, slots and memory fit`)];
}

function duplicates(agents: readonly HeardFacts[]): Finding[] {
  const byEngine = new Map<string, Facts[]>();
  for (const { facts } of agents) {
    const engine = facts.engine as string;
    byEngine.set(engine, [...(byEngine.get(engine) ?? []), facts]);
  }
  return [...byEngine]
    .filter(([, claims]) => new Set(claims.map(({ instance }) => instance)).size > 1)
    .map(([engine, claims]) => {
      const who = claims.map(({ host, pid }) => `process ${pid} on ${host}`).join(" and ");
      return wrong(
        "engine.id",
        `${claims.length} worker agents call themselves ${engine} (${who}), so each takes the other's calls away: give each its own AUTELLIX_ENGINE_ID`,
        engine,
      );
    });
}

function slotFindings({ engine, slots }: Facts): Finding[] {
  if (!engine || !slots) return [];
  const { used, asked, server, queued = 0 } = slots;
  const told = Math.max(asked ?? used, used);
  if (server !== undefined && told > server) {
    const now = used > server ? "the rest waits in the server's own order" : `only ${used} are used`;
    return [
      wrong(
        "engine.slots",
        `engine ${engine} has ${told} slots, but its server computes only ${server} requests together, so ${now}: set --slots (AUTELLIX_SLOTS) to ${server}, or give the server more (llama-server: --parallel)`,
        engine,
      ),
    ];
  }
  if (queued > 0) {
    return [
      wrong(
        "engine.slots",
        `engine ${engine} has ${used} slots, but its server keeps ${queued} request${queued === 1 ? "" : "s"} waiting, which it then orders by itself: set --slots (AUTELLIX_SLOTS) to what the server was started with (vLLM: --max-num-seqs)`,
        engine,
      ),
    ];
  }
  return [];
}

function memoryFindings(agents: readonly HeardFacts[]): Finding[] {
  const findings: Finding[] = [];
  const places = new Map<string, { dir: string; host: string; bytes: number; size: number; engines: string[] }>();
  for (const { facts } of agents) {
    const { engine, host, hostTier } = facts;
    if (!engine || !hostTier) continue;
    const { dir, wantedBytes, fileSystemBytes, isDefault } = hostTier;
    if (wantedBytes > fileSystemBytes) {
      const whose = isDefault ? `${HOST_KV_DEFAULT} of ${mib(wantedBytes)}` : mib(wantedBytes);
      findings.push(
        wrong(
          "engine.memory",
          `${dir} has ${mib(fileSystemBytes)}, less than the host tier of engine ${engine} wants (${whose}), so contexts are recomputed instead of swapped: enlarge it (containers: shm_size, --shm-size), or lower --host-kv-bytes (AUTELLIX_HOST_KV_BYTES_MAX)`,
          engine,
        ),
      );
      continue;
    }
    const key = `${host} ${dir}`;
    const place = places.get(key) ?? { dir, host, bytes: 0, size: fileSystemBytes, engines: [] };
    // Without a limit of its own a tier takes half of what is free at most.
    place.bytes += isDefault ? Math.min(wantedBytes, fileSystemBytes / 2) : wantedBytes;
    place.engines.push(engine);
    places.set(key, place);
  }
  for (const { dir, host, bytes, size, engines } of places.values()) {
    if (bytes <= size) continue;
    findings.push(
      wrong(
        "engine.memory",
        `${dir} on ${host} has ${mib(size)}, less than the host tiers of ${engines.length} engines want together (${mib(bytes)}: ${engines.slice(0, 8).join(", ")}): enlarge it, or lower --host-kv-bytes (AUTELLIX_HOST_KV_BYTES_MAX)`,
        host,
      ),
    );
  }
  return findings;
}

function nameOf({ service, engine, pool }: Facts): string {
  return engine ? `${service} ${engine}` : pool ? `${service} of ${pool}` : service;
}

function mib(bytes: number): string {
  return bytes >= 1024 ** 3 ? `${+(bytes / 1024 ** 3).toFixed(1)} GiB` : `${Math.round(bytes / 1024 ** 2)} MiB`;
}
