/** The rules over evidence that is made up; doctor.integration.test.ts plants the faults for real. */
import {
  CALLS_STREAM,
  type Facts,
  type HeardFacts,
  type ServerSeen,
  STREAMS,
  type StreamSeen,
  streamsNeeded,
} from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { judge } from "../src/observe/doctor/command.ts";
import type { Evidence, Finding, PoolSeen } from "../src/observe/doctor/evidence.ts";

const NOW = 1_764_000_000_000;
const GIB = 1024 ** 3;
const asked = { askedAtMs: NOW - 20, heardAtMs: NOW + 20 };

const heard = (facts: Partial<Facts>, clockMs = 0): HeardFacts => ({
  ...asked,
  facts: {
    service: "frontend",
    instance: Math.random().toString(36),
    host: "h1",
    pid: 1,
    version: "0.1.0",
    protocol: 1,
    atMs: NOW + clockMs,
    ...facts,
  },
});
const server = (name: string, over: Partial<ServerSeen> = {}): ServerSeen => ({
  name,
  version: "2.15.1",
  hasJetStream: true,
  atMs: NOW,
  ...asked,
  ...over,
});
const agent = (engine: string, over: Partial<Facts> = {}) =>
  heard({ service: "worker-agent", pool: "sim", engine, slots: { used: 4 }, ...over });

function streams(replicas = 1): Map<string, StreamSeen | undefined> {
  const config = (name: (typeof STREAMS)[number]) => ({
    ...{ name, max_age: 0, num_replicas: replicas },
    ...streamsNeeded[name],
    ...(name === CALLS_STREAM ? { subjects: ["autellix.calls.sim.*.*"] } : {}),
  });
  return new Map(
    STREAMS.map((name) => [name, { config: config(name) as unknown as StreamSeen["config"], messages: 0 }]),
  );
}

const pool = (over: Partial<PoolSeen> = {}): PoolSeen => ({
  pool: "sim",
  waitingCalls: 0,
  leader: {
    ...{ atMs: NOW, ...asked, engines: [{ engine: "e1", state: "up" }] as never },
    view: { pool: "sim", leader: "me", epoch: 3, dispatching: true } as never,
  },
  ...over,
});

function evidence(over: Partial<Evidence> = {}): Evidence {
  return {
    url: "nats://n",
    server: {
      version: "2.15.1",
      hasJetStream: true,
      payloadBytesMax: 16 * 1024 ** 2,
      addresses: ["n:4222"],
      host: "n",
    },
    servers: [server("n1")],
    apiLevel: 5,
    streams: streams(),
    sync: [],
    facts: [
      heard({ bodyBytesMax: 8 * 1024 ** 2 }),
      agent("e1"),
      heard({ service: "scheduler", pool: "sim", replicas: 1 }),
    ],
    pools: [pool()],
    frontendsSilent: [],
    unknownPools: [],
    invalid: [],
    ...over,
  };
}

const wrong = (over: Partial<Evidence>): Finding[] => judge(evidence(over)).filter(({ level }) => level === "wrong");

describe("doctor's rules", () => {
  it("find nothing wrong in a system that works, and say what they looked at", () => {
    const findings = judge(evidence());
    expect(findings.filter(({ level }) => level !== "ok")).toEqual([]);
    expect(findings.map(({ check }) => check)).toEqual([
      "nats.server",
      "nats.payload",
      "streams.settings",
      "clocks",
      "pool.leader",
      "engines",
      "frontend.answers",
    ]);
  });

  const others = evidence().facts;
  it.each<[string, Partial<Evidence>, RegExp]>([
    [
      "nats.version",
      { servers: [server("n1"), server("n2", { version: "2.10.27" })] },
      /nats-server n2 of the cluster at nats:\/\/n is 2\.10\.27/,
    ],
    ["pools", { unknownPools: ['there is no pool "q"; there is p'] }, /^There is no pool "q"; there is p: name one/],
    ["nats.jetstream", { apiLevel: undefined }, /no JetStream/],
    ["nats.jetstream", { apiLevel: 0 }, /API level 0/],
    [
      "streams.missing",
      { streams: new Map([...streams()].map(([name, seen]) => [name, name === CALLS_STREAM ? undefined : seen])) },
      /AUTELLIX_CALLS is missing/,
    ],
    ["streams.subjects", { pools: [pool(), pool({ pool: "other" })] }, /lacks the subject of pool other/],
    [
      "nats.sync",
      {
        streams: streams(3),
        servers: ["a", "b", "c"].map((n) => server(n)),
        sync: [{ url: "u", name: "b", syncAlways: false, syncIntervalMs: 120_000 }],
      },
      /b \(every 120 s\)/,
    ],
    [
      "streams.replicas",
      {
        facts: [...others, heard({ service: "scheduler", pool: "sim", replicas: 3 })],
        streams: new Map([...streams(3), [CALLS_STREAM, streams(1).get(CALLS_STREAM)]]),
        servers: ["a", "b", "c"].map((n) => server(n)),
        sync: ["a", "b", "c"].map((name) => ({ url: "u", name, syncAlways: true, syncIntervalMs: 0 })),
      },
      /AUTELLIX_CALLS has 1 replica, but the schedulers have AUTELLIX_REPLICAS=3/,
    ],
    [
      "clocks",
      { facts: [...others, heard({ host: "h2" }, -5_000)] },
      /host h2 \(frontend \(process 1\)\) is 5\.0 s behind/,
    ],
    [
      "clocks",
      { servers: [server("n1", { atMs: NOW + 90_000 })], facts: others.slice(0, 1), pools: [] },
      /90\.0 s behind that of nats-server n1/,
    ],
    ["clocks", { servers: [server("n1"), server("n2", { atMs: NOW - 3_000 })] }, /nats-server n2 is 3\.0 s behind/],
    ["versions", { facts: [...others, heard({ version: "0.2.0" })] }, /0\.1\.0 .*0\.2\.0/],
    [
      "pool.leader",
      { pools: [pool({ leader: undefined, waitingCalls: 7 })] },
      /no leader, .*its 7 calls wait: 1 scheduler is there and may be taking over/,
    ],
    [
      "engine.id",
      { facts: [...others, agent("e1", { pid: 2, host: "h2" })] },
      /e1 \(process 1 on h1 and process 2 on h2\)/,
    ],
    [
      "engine.slots",
      { facts: [...others, agent("e2", { slots: { used: 8, queued: 3 } })] },
      /e2 has 8 slots, but its server keeps 3 requests waiting.*--max-num-seqs/,
    ],
    [
      "engine.slots",
      { facts: [...others, agent("e2", { slots: { used: 8, asked: 8, server: 4 } })] },
      /the rest waits in the server's own order/,
    ],
    [
      "engine.memory",
      {
        facts: [
          ...others,
          agent("e2", {
            hostTier: {
              dir: "/dev/shm",
              wantedBytes: GIB,
              isDefault: true,
              fileSystemBytes: GIB / 16,
              freeBytes: GIB / 16,
            },
          }),
        ],
      },
      /\/dev\/shm has 64 MiB, less than the host tier of engine e2 wants \(the default of 1 GiB\)/,
    ],
    [
      "engine.memory",
      {
        facts: [
          ...others,
          ...["e2", "e3", "e4"].map((e) =>
            agent(e, {
              hostTier: {
                dir: "/dev/shm",
                wantedBytes: GIB,
                isDefault: false,
                fileSystemBytes: 2 * GIB,
                freeBytes: GIB,
              },
            }),
          ),
        ],
      },
      /3 engines want together \(3 GiB/,
    ],
    ["frontend.http", { frontendsSilent: ["127.0.0.1:8080"] }, /127\.0\.0\.1:8080 is on NATS but does not answer/],
  ])("name %s", (check, over, text) => {
    const found = wrong(over);
    expect(found.map((finding) => finding.check)).toEqual([check]);
    expect(found[0]?.text).toMatch(text);
    expect(found[0]?.text).toMatch(/: .*\.$/);
  });

  it("let go what adapts itself, and what nobody uses", () => {
    const hostTier = { dir: "/dev/shm", wantedBytes: GIB, isDefault: true, fileSystemBytes: 1.5 * GIB, freeBytes: GIB };
    expect(wrong({ facts: [...others, agent("e2", { hostTier }), agent("e3", { hostTier })] })).toEqual([]);
    const unused = judge(
      evidence({
        pools: [pool(), pool({ pool: "old", leader: undefined })],
        streams: new Map([
          ...streams(),
          [
            CALLS_STREAM,
            {
              config: {
                ...streamsNeeded[CALLS_STREAM],
                subjects: ["autellix.calls.sim.*.*", "autellix.calls.old.*.*"],
                num_replicas: 1,
                max_age: 0,
              } as never,
              messages: 0,
            },
          ],
        ]),
      }),
    );
    expect(unused.filter(({ level }) => level !== "ok").map(({ check, level }) => [check, level])).toEqual([
      ["pool.leader", "note"],
    ]);
  });

  it("say what works nevertheless where bodies are larger than messages", () => {
    const small = evidence();
    const findings = judge({ ...small, server: { ...small.server, payloadBytesMax: 1024 ** 2 } });
    expect(findings.filter(({ level }) => level !== "ok")).toMatchObject([
      {
        check: "nats.payload",
        level: "note",
        text: expect.stringMatching(/up to 1 MiB.*object store, so HTTP and submit\(\) work/),
      },
    ]);
  });
});
