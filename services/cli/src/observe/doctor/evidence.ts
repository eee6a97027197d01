/** What a doctor's check knows before it judges; gathered by gather.ts, judged by rules without any network. */
import type { ConnectedServer, HeardFacts, ServerSeen, StreamSeen, ViewEngine, ViewPool } from "@autellix/protocol";

/** `wrong`: something does not work, or a promise does not hold. `note`: it works, and a person should know. */
export type Level = "ok" | "note" | "wrong";

export interface Finding {
  /** Stable name of the check, for scripts. */
  check: string;
  level: Level;
  /** What it is about: a stream, a pool, an engine, a host. */
  subject?: string;
  /** One sentence; of something wrong it says what to do. */
  text: string;
}

export interface PoolSeen {
  pool: string;
  /** What the leader said; undefined when nobody answered. */
  leader: { view: ViewPool; engines: ViewEngine[]; atMs: number; askedAtMs: number; heardAtMs: number } | undefined;
  /** Calls of it that lie in the queue, when nobody leads it. */
  waitingCalls: number;
}

/** What a server's monitoring port says of its store. */
export interface SyncSeen {
  url: string;
  name: string;
  syncAlways: boolean;
  syncIntervalMs: number;
}

export interface Evidence {
  /** Without credentials. */
  url: string;
  server: ConnectedServer;
  servers: ServerSeen[];
  /** Undefined: no JetStream. */
  apiLevel: number | undefined;
  streams: Map<string, StreamSeen | undefined>;
  /** Of servers whose monitoring port answers. */
  sync: SyncSeen[];
  facts: HeardFacts[];
  pools: PoolSeen[];
  /** A sentence for each pool that was asked for and is none. */
  unknownPools: string[];
  /** Frontends on this machine whose HTTP port did not answer: `host:port`. */
  frontendsSilent: string[];
  /** Answers that were none. */
  invalid: string[];
}
