/** What nats-server and the streams must be. */
import {
  API_LEVEL_MIN,
  BODY_BYTES_MAX,
  CALL_LIFETIME_MAX_MS,
  CALLS_STREAM,
  OUTCOMES_STREAM,
  PAYLOAD_HEADROOM_BYTES,
  RESULT_INLINE_BYTES_MAX,
  SERVER_VERSION_MIN,
  STREAMS,
  type StreamSeen,
  streamsNeeded,
  subjects,
  versionAtLeast,
} from "@autellix/protocol";
import type { Evidence, Finding } from "./evidence.ts";

const NANOS_PER_MS = 1_000_000;
const SYNCED_REPLICAS_MIN = 2;

/** Whether anything else can be looked at: without these the other checks have nothing to ask. */
export function serverFindings({
  url,
  server,
  servers,
  apiLevel,
}: Pick<Evidence, "url" | "server" | "servers" | "apiLevel">): Finding[] {
  const findings: Finding[] = [];
  const seen =
    servers.length > 0
      ? servers.map(({ name, version }) => ({ name, version }))
      : [{ name: "", version: server.version }];
  for (const { name, version } of seen.filter((one) => !versionAtLeast(one.version, SERVER_VERSION_MIN))) {
    const which = servers.length > 1 ? `nats-server ${name} of the cluster at ${url}` : `nats-server at ${url}`;
    findings.push(
      wrong(
        "nats.version",
        `${which} is ${version}, which can bring ended calls back after a crash: install ${SERVER_VERSION_MIN} or newer`,
        name,
      ),
    );
  }
  if (findings.length > 0) return findings;
  if (apiLevel === undefined) {
    return [
      wrong(
        "nats.jetstream",
        `nats-server at ${url} has no JetStream, so no call can be queued: start it with -js, or add a jetstream block to its configuration`,
      ),
    ];
  }
  if (apiLevel < API_LEVEL_MIN) {
    return [
      wrong(
        "nats.jetstream",
        `nats-server at ${url} has JetStream API level ${apiLevel}: install ${SERVER_VERSION_MIN} or newer on every server of the cluster`,
      ),
    ];
  }
  const bytesMin = RESULT_INLINE_BYTES_MAX + PAYLOAD_HEADROOM_BYTES;
  if (server.payloadBytesMax < bytesMin) {
    return [
      wrong(
        "nats.payload",
        `nats-server at ${url} takes messages up to ${kib(server.payloadBytesMax)} only, so no service starts: set max_payload to ${bytesMin} or more`,
      ),
    ];
  }
  const many = servers.length > 1 ? `${servers.length} servers, ` : "";
  return [ok("nats.server", `nats-server ${server.version} at ${url} (${many}JetStream API level ${apiLevel})`)];
}

/** The largest message against the largest body that a frontend takes. */
export function payloadFindings({ url, server, facts }: Evidence): Finding[] {
  const limits = facts.map((heard) => heard.facts.bodyBytesMax).filter((bytes) => bytes !== undefined);
  const bodyBytesMax = limits.length > 0 ? Math.max(...limits) : BODY_BYTES_MAX;
  const room = server.payloadBytesMax - PAYLOAD_HEADROOM_BYTES;
  if (room >= bodyBytesMax)
    return [ok("nats.payload", `messages may have ${kib(server.payloadBytesMax)}, more than any request body`)];
  return [
    {
      check: "nats.payload",
      level: "note",
      text: `nats-server at ${url} takes messages up to ${kib(server.payloadBytesMax)}, but frontends take bodies up to ${kib(bodyBytesMax)}: larger bodies go through the object store, so HTTP and submit() work, and only plain NATS publishers are limited; raise max_payload (64 MiB at most) if they need more.`,
    },
  ];
}

export function streamFindings(evidence: Evidence): Finding[] {
  const { streams, pools } = evidence;
  const missing = STREAMS.filter((name) => streams.get(name) === undefined);
  if (missing.length === STREAMS.length) {
    return [
      wrong(
        "streams.missing",
        "there are no streams, so no scheduler has ever worked here: start one, it makes them (or --nats names the wrong server)",
      ),
    ];
  }
  const findings = missing.map((name) =>
    wrong(
      "streams.missing",
      `the stream ${name} is missing: restart a scheduler, it makes it anew${name === OUTCOMES_STREAM ? " (the results of ended calls are lost)" : ""}`,
      name,
    ),
  );
  for (const name of STREAMS) {
    const seen = streams.get(name);
    if (seen) findings.push(...settingsOf(name, seen));
  }
  const calls = streams.get(CALLS_STREAM)?.config.subjects ?? [];
  for (const { pool } of calls.length > 0 ? pools : []) {
    if (calls.includes(subjects.callsOfPool(pool))) continue;
    findings.push(
      wrong(
        "streams.subjects",
        `the stream ${CALLS_STREAM} lacks the subject of pool ${pool}, so its calls are refused: restart the pool's scheduler, it adds the subject`,
        pool,
      ),
    );
  }
  findings.push(...replicaFindings(evidence));
  return findings.length > 0
    ? findings
    : [ok("streams.settings", `${STREAMS.length} streams with the settings that they need`)];
}

/** What goes wrong with another value. */
const HARM: Readonly<Record<string, string>> = {
  retention: "calls would not leave the queue when they have ended, or would vanish before",
  storage: "a restart of nats-server would lose what it holds",
  max_msgs_per_subject: "a call could be queued twice, or a record could not be replaced",
  discard: "a full stream would drop old messages instead of refusing new ones",
  discard_new_per_subject: "a second publish to a call's id would replace the first",
  allow_direct: "agents could not fetch bodies and records",
  allow_msg_ttl: "leases and program entries would never expire",
  subjects: "records would not be stored",
};
/** JetStream does not change these in a stream that exists. */
const FIXED = new Set(["retention", "storage"]);

function settingsOf(name: (typeof STREAMS)[number], { config }: StreamSeen): Finding[] {
  const found = config as unknown as Record<string, unknown>;
  const findings: Finding[] = [];
  for (const [setting, needed] of Object.entries(streamsNeeded[name])) {
    if (shown(found[setting] ?? absent(needed)) === shown(needed)) continue;
    const how = FIXED.has(setting)
      ? "when it is empty, delete it and restart a scheduler, which makes it anew"
      : `set it back (nats stream edit ${name}), or delete the stream when it is empty and restart a scheduler`;
    const text = `the stream ${name} has ${setting} ${shown(found[setting] ?? absent(needed))} instead of ${shown(needed)}, so ${HARM[setting] ?? "it does not do its work"}: ${how}`;
    findings.push(wrong("streams.settings", text, name));
  }
  const ageMs = config.max_age / NANOS_PER_MS;
  if (name === OUTCOMES_STREAM && ageMs > 0 && ageMs <= CALL_LIFETIME_MAX_MS) {
    const text = `the stream ${name} keeps records for ${minutes(ageMs)} only, less than a call may live (${minutes(CALL_LIFETIME_MAX_MS)}), so a call could run and end twice: raise max_age to 2h`;
    findings.push(wrong("streams.settings", text, name));
  }
  return findings;
}

const absent = (needed: unknown): unknown => (typeof needed === "boolean" ? false : "none");
const shown = (value: unknown): string => (Array.isArray(value) ? value.join(",") : String(value));

/** All with the same number of replicas, as many as the schedulers were told, on a cluster that has so many servers. */
function replicaFindings({ streams, facts, servers }: Evidence): Finding[] {
  const findings: Finding[] = [];
  const wanted = Math.max(1, ...facts.map((heard) => heard.facts.replicas ?? 1));
  const isTold = facts.some((heard) => heard.facts.replicas !== undefined);
  const most = Math.max(...[...streams.values()].map((seen) => seen?.config.num_replicas ?? 1));
  const needed = isTold ? wanted : most;
  for (const [name, seen] of streams) {
    const replicas = seen?.config.num_replicas ?? needed;
    if (replicas >= needed) continue;
    const why = isTold
      ? `the schedulers have AUTELLIX_REPLICAS=${needed}, which counts only when a stream is made`
      : `other streams have ${needed}`;
    findings.push(
      wrong(
        "streams.replicas",
        `the stream ${name} has ${replicas} replica${replicas === 1 ? "" : "s"}, but ${why}: change it with nats stream edit ${name} --replicas ${needed}`,
        name,
      ),
    );
  }
  if (servers.length > 0 && most > servers.length) {
    findings.push(
      wrong(
        "streams.replicas",
        `streams have ${most} replicas, but only ${servers.length} nats-server${servers.length === 1 ? " answers" : "s answer"}: start the others, one more loss may stop the queue`,
      ),
    );
  }
  return findings;
}

/** Replicas promise to survive a power loss only when each server writes through. */
export function syncFindings({ streams, sync, servers }: Evidence): Finding[] {
  const replicas = Math.max(1, ...[...streams.values()].map((seen) => seen?.config.num_replicas ?? 1));
  if (replicas < SYNCED_REPLICAS_MIN) return [];
  const lazy = sync.filter(({ syncAlways }) => !syncAlways);
  if (lazy.length > 0) {
    const names = lazy
      .map(({ name, syncIntervalMs }) => `${name} (every ${Math.round(syncIntervalMs / 1_000)} s)`)
      .join(", ");
    return [
      wrong(
        "nats.sync",
        `the streams have ${replicas} replicas, but nats-server ${names} does not write through to disk, so a power loss can lose accepted calls: set sync_interval: always in its jetstream block`,
      ),
    ];
  }
  const unseen = servers.filter(({ name }) => !sync.some((one) => one.name === name));
  if (unseen.length > 0) {
    const text = `the streams have ${replicas} replicas, but whether nats-server ${unseen.map(({ name }) => name).join(", ")} writes through to disk (sync_interval: always in its jetstream block, without it a power loss can lose accepted calls) cannot be seen: name its monitoring port with --monitor http://HOST:8222`;
    return [wrong("nats.sync", text)];
  }
  return [ok("nats.sync", `${sync.length} nats-servers write through to disk (sync_interval: always)`)];
}

export function ok(check: string, text: string): Finding {
  return { check, level: "ok", text: `${text}.` };
}

export function wrong(check: string, text: string, subject?: string): Finding {
  return { check, level: "wrong", ...(subject ? { subject } : {}), text: `${text}.` };
}

function kib(bytes: number): string {
  return bytes >= 1024 ** 2 ? `${+(bytes / 1024 ** 2).toFixed(1)} MiB` : `${+(bytes / 1024).toFixed(1)} KiB`;
}

function minutes(ms: number): string {
  return ms >= 3_600_000 ? `${+(ms / 3_600_000).toFixed(1)} h` : `${+(ms / 60_000).toFixed(1)} min`;
}
