/** One call that this agent holds, from the plan that brought it until its outcome is stored. */
import {
  type CallAddress,
  type CallKey,
  type CallState,
  type ChatCall,
  type Dispatch,
  type Encoding,
  parseReply,
  type ReplyTarget,
  splitCallKey,
} from "@autellix/protocol";
import type { Ending } from "./endings.ts";
import type { Timeline } from "./timeline.ts";
import { TokenLog } from "./token-log.ts";

/**
 * `starting`: body, outcome and (resumed calls) the frontend's answer are on their way. `opening`: the engine counts
 * its tokens. `ready`: it can be stepped. `ending`: it generates nothing more; its record is being stored.
 */
export type Phase = "starting" | "opening" | "ready" | "ending";

/** Identity across engines and attempts, as plans and reports name it. */
export function attemptName(call: CallKey, attempt: number): string {
  return `${call}#${attempt}`;
}

export class HeldCall {
  readonly id: number;
  readonly key: CallKey;
  readonly attempt: number;
  readonly dispatch: Dispatch;
  readonly address: CallAddress;
  readonly reply: ReplyTarget | undefined;
  readonly receivedAtMs: number;
  readonly tokens = new TokenLog();

  phase: Phase = "starting";
  /** Whether its body was asked for: above `unsentOutcomesMax` nothing new is. */
  fetchAsked = false;
  fetchTries = 0;
  haveTries = 0;
  /** Its start waits for somebody who did not answer: meanwhile its slot goes to others. */
  stuck = false;
  /** What the engine opens, until it has. */
  opens: { chat: ChatCall; body: Readonly<Record<string, unknown>> } | undefined;
  /** As its publisher named it. */
  model: string | undefined;
  /** As its publisher encoded it; readable by everybody until that is known. */
  encoding: Encoding = "json";
  /** Ids that the client has seen of earlier attempts; undefined until the frontend has answered. */
  forcedIds: readonly number[] | undefined;
  /** The engine holds it: it must be closed. */
  opened = false;
  /** It was in a step: it is finished before anything new is begun. */
  stepped = false;
  promptTokens = 0;
  completionTokens = 0;
  /** Prompt tokens that a context or cache held. */
  cachedTokens = 0;
  /** Tokens whose KV is on the engine. */
  contextTokens = 0;
  /** Tokens whose KV lies in the host tier. */
  hostTokens = 0;
  /** The engine would not take its context to the host tier; until it runs again. */
  swapRefused = false;
  /** False: it must stay in the batch until it ends. */
  preemptible = true;
  serviceMs = 0;
  /** The first chunk to an inbox carries the role. */
  inboxStarted = false;
  ending: Ending | undefined;
  /** Set while its program is traced and its spans are not sent. */
  timeline: Timeline | undefined;

  constructor(id: number, pool: string, key: CallKey, attempt: number, dispatch: Dispatch, atMs: number) {
    this.id = id;
    this.key = key;
    this.attempt = attempt;
    this.dispatch = dispatch;
    this.address = { pool, ...splitCallKey(key) };
    this.reply = dispatch.reply === undefined ? undefined : parseReply(dispatch.reply);
    this.receivedAtMs = atMs;
    // S2: only a frontend can be asked; in front of an inbox or nobody an attempt starts over.
    this.forcedIds = attempt > 1 && this.reply?.kind === "frontend" ? undefined : [];
  }

  get name(): string {
    return attemptName(this.key, this.attempt);
  }

  get frontend(): string | undefined {
    return this.reply?.kind === "frontend" ? this.reply.frontend : undefined;
  }

  /** Context that it needs to run: prompt, answer so far and the token of the next step. */
  get neededTokens(): number {
    return this.promptTokens + this.completionTokens + 1;
  }

  /** As reports name it. A call whose record is being stored counts as running: only `finished` takes it away. */
  reportState(batch: ReadonlySet<number>): CallState {
    if (this.phase === "starting" || this.phase === "opening") return "fetching";
    if (this.phase === "ending" || batch.has(this.id)) return "running";
    if (this.contextTokens > 0) return "parked";
    return this.hostTokens > 0 ? "swapped" : "evicted";
  }

  /** Time since acceptance in which it was in no step, earlier attempts included. */
  waitingMs(atMs: number): number {
    return this.dispatch.waitedMs + Math.max(0, atMs - this.receivedAtMs - this.serviceMs);
  }
}
