/** Contexts of llama calls: on the engine, in the host tier, and from one call or engine to the next. */
import { createHash } from "node:crypto";
import type { LlamaContextSequence } from "node-llama-cpp";
import type { HostFile } from "../host-tier.ts";
import type { Swap } from "../port.ts";
import type { LlamaCall } from "./call.ts";
import type { Seats } from "./seats.ts";
import type { Tier } from "./tier.ts";

/** What a taker must know of a context that was left. */
interface Left {
  ids: number[];
  cachedTokens: number;
}

export class Contexts {
  /** Stepped last: who gets a context shall lie beside them. */
  batch: readonly LlamaCall[] = [];
  readonly swaps = { swapOuts: 0, swapIns: 0, swapBytes: 0, swapMs: 0 };
  readonly #seats: Seats;
  readonly #tier: Tier | undefined;
  /** Of model and context: a state file of another one would crash the process. */
  readonly #fingerprint: string;

  constructor(seats: Seats, tier: Tier | undefined, fingerprint: string) {
    this.#seats = seats;
    this.#tier = tier;
    this.#fingerprint = fingerprint;
  }

  get hostBytes(): number {
    return this.#tier?.files.bytes ?? 0;
  }

  /** @throws Error when all contexts are taken. */
  acquire(call: LlamaCall): LlamaContextSequence {
    call.seat ??= this.#seats.take(this.batch.flatMap(({ seat }) => (seat === undefined ? [] : [seat.place])));
    return call.seat.sequence;
  }

  /** Frees what the call has, in both tiers. */
  async release(call: LlamaCall): Promise<void> {
    await Promise.all([this.#releaseSeat(call), this.#releaseHost(call)]);
  }

  /** The same for a call that goes on: its prompt will be evaluated again. */
  async drop(call: LlamaCall): Promise<void> {
    if (!call.retained) call.cachedTokens = 0;
    await this.release(call);
  }

  async swapOut(call: LlamaCall): Promise<Swap | undefined> {
    const { contextTokens, seat } = call;
    if (this.#tier === undefined || seat === undefined || contextTokens === 0) return undefined;
    const startMs = performance.now();
    const { baseBytes, tokenBytes } = this.#tier;
    const file = await this.#tier.files.save(
      baseBytes + contextTokens * tokenBytes,
      async (path) => (await seat.sequence.saveStateToFile(path)).fileSize,
    );
    if (file === undefined) return undefined;
    await this.#releaseSeat(call);
    this.#putHost(call, file, contextTokens, contextTokens);
    return this.#swapped("swapOuts", contextTokens, file.bytes, startMs);
  }

  async swapIn(call: LlamaCall): Promise<Swap | undefined> {
    const { host, hostTokens, hostKeepTokens } = call;
    if (host === undefined) return undefined;
    const startMs = performance.now();
    const sequence = this.acquire(call);
    try {
      await sequence.loadStateFromFile(host.path, { acceptRisk: true });
      const { contextTokens } = sequence;
      const isOwn = contextTokens.length === hostTokens && call.commonTokens(contextTokens) >= hostKeepTokens;
      if (!isOwn) throw new Error("the file holds another context");
      await this.#truncate(call, hostKeepTokens);
    } catch {
      // Gone, cut off, or unreadable: the tokens are still known, so the call can be recomputed.
      await this.drop(call);
      return undefined;
    }
    await this.#releaseHost(call);
    return this.#swapped("swapIns", hostTokens, host.bytes, startMs);
  }

  /** The context of an ended call becomes this call's, as far as the two begin alike. */
  async goOn(call: LlamaCall, ended: LlamaCall): Promise<void> {
    const held = ended.contextTokens + ended.hostTokens;
    const common = call.commonTokens(ended.allIds.slice(0, held));
    if (common === 0) return this.release(ended);
    call.cachedTokens = Math.min(common, call.promptTokens);
    if (ended.host !== undefined) {
      this.#putHost(call, ended.host, ended.hostTokens, common);
      ended.host = undefined;
      ended.hostTokens = 0;
      return;
    }
    call.seat = ended.seat;
    ended.seat = undefined;
    ended.contextTokens = 0;
    try {
      await this.#truncate(call, common);
    } catch {
      await this.drop(call);
    }
  }

  /** The call's context goes to whoever opens a call of its key next, on this host with this model. */
  async leave(call: LlamaCall): Promise<Swap | undefined> {
    const startMs = performance.now();
    const swap = await this.swapOut(call);
    const { host, hostKeepTokens, hostTokens } = call;
    if (this.#tier === undefined || host === undefined) return undefined;
    const left: Left = {
      // What was another's in it stays unknown: no taker can use it.
      ids: [...call.allIds.slice(0, hostKeepTokens), ...new Array<number>(hostTokens - hostKeepTokens).fill(-1)],
      cachedTokens: call.cachedTokens,
    };
    call.host = undefined;
    call.hostTokens = 0;
    if (!(await this.#tier.files.leave(this.#nameOf(call), host, left))) return undefined;
    return swap ?? { tokens: hostTokens, bytes: host.bytes, durationMs: performance.now() - startMs };
  }

  /** Takes over what an earlier attempt of this call left behind. */
  async takeOver(call: LlamaCall): Promise<void> {
    const found = await this.#tier?.files.claim(this.#nameOf(call));
    if (found === undefined) return;
    const left = found.header as Left;
    const common = call.commonTokens(left.ids);
    this.#putHost(call, found.file, left.ids.length, common);
    if (common === 0) return this.release(call);
    call.cachedTokens = Math.min(left.cachedTokens, common);
    // They are in the counters of the engine that reused them.
    call.counted = true;
  }

  async close(): Promise<void> {
    await this.#tier?.files.close();
  }

  #putHost(call: LlamaCall, file: HostFile, tokens: number, keepTokens: number): void {
    call.host = file;
    call.hostTokens = tokens;
    call.hostKeepTokens = keepTokens;
  }

  async #truncate(call: LlamaCall, tokens: number): Promise<void> {
    const sequence = call.seat?.sequence;
    if (sequence === undefined) throw new Error("the call has no context");
    const all = sequence.nextTokenIndex;
    if (tokens < all) {
      // Models with a sliding window or a recurrent state cannot forget their last tokens: the library would evaluate
      // the whole prefix anew, here and now.
      if (sequence.needsCheckpoints) throw new Error("contexts of this model cannot be cut");
      await sequence.eraseContextTokenRanges([{ start: tokens, end: all }]);
    }
    if (sequence.nextTokenIndex !== tokens) throw new Error("the context could not be cut");
    call.contextTokens = tokens;
  }

  #swapped(count: "swapOuts" | "swapIns", tokens: number, bytes: number, startMs: number): Swap {
    const durationMs = performance.now() - startMs;
    this.swaps[count]++;
    this.swaps.swapBytes += bytes;
    this.swaps.swapMs += durationMs;
    return { tokens, bytes, durationMs };
  }

  async #releaseSeat(call: LlamaCall): Promise<void> {
    const { seat } = call;
    call.seat = undefined;
    call.contextTokens = 0;
    if (seat !== undefined) await this.#seats.giveBack(seat);
  }

  async #releaseHost(call: LlamaCall): Promise<void> {
    const { host } = call;
    call.host = undefined;
    call.hostTokens = 0;
    if (host !== undefined) await this.#tier?.files.remove(host);
  }

  #nameOf(call: LlamaCall): string {
    return createHash("sha256").update(`${this.#fingerprint} ${call.key}`).digest("hex").slice(0, 32);
  }
}
