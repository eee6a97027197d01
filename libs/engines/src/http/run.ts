/** The request of one call while it is in the batch: begun, read, taken up again when it breaks, or given up. */
import { setTimeout as sleep } from "node:timers/promises";
import { AutellixError } from "@autellix/protocol";
import type { Piece } from "./answer.ts";
import type { HttpCall } from "./call.ts";
import { completeCharacter, textFrom, wholeIds } from "./characters.ts";
import type { Dialect, IdDialect, StreamRequest } from "./dialect.ts";
import { ServerFailure, tooLong } from "./failure.ts";
import { crashedTooOften, gone, Retries } from "./retries.ts";
import type { Server } from "./server.ts";

/** From the answer's end to the end of its stream, in which the server says what it counted. */
const END_MS_MAX = 2_000;

/** The request was begun as if the answer were plain text, and is not: it is made again as it came. */
class NotPlain extends Error {}

export class CallRun {
  /** Never rejects. */
  readonly done: Promise<void>;
  /** The server has the request. */
  streams = false;
  /** Its tokens come. */
  flows = false;
  /** The server has said that the answer ends. */
  #ends = false;
  readonly #call: HttpCall;
  readonly #server: Server;
  readonly #priority: number;
  readonly #stop = new AbortController();

  /** @param priority its place in the batch. @param ended called when the call has ended or failed. */
  constructor(call: HttpCall, server: Server, priority: number, ended: () => void) {
    this.#call = call;
    this.#server = server;
    this.#priority = priority;
    this.done = this.#untilEnd()
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#fail(error);
      })
      .then(ended);
  }

  /** Closes the connection: the server stops. */
  abort(): void {
    this.#stop.abort(new Error("the call left the batch"));
  }

  async #untilEnd(): Promise<void> {
    const { dialect, health, limits, trials } = this.#server;
    const { signal } = this.#stop;
    const retries = new Retries(limits);
    let hasNoPriority = false;
    try {
      // It may have been here before: whoever leaves while the server is down is remembered.
      if (this.#call.crashes >= limits.crashesMax) throw crashedTooOften(this.#call.crashes);
      for (;;) {
        if (health.health.state !== "up") await aborting(health.suspect(), signal);
        const pausedMs = this.#server.pausedMs();
        if (pausedMs > 0) await sleep(pausedMs, undefined, { signal });
        await aborting(trials.turn(this.#call), signal);
        const { downs } = health;
        const before = this.#call.answer.tokens;
        try {
          await this.#once();
          this.#call.ended = true;
          return;
        } catch (error) {
          signal.throwIfAborted();
          if (error instanceof NotPlain) continue;
          if (!hasNoPriority && isOfPriority(error) && dialect.withoutPriority) {
            hasNoPriority = true;
            dialect.withoutPriority();
            continue;
          }
          if (!(error instanceof ServerFailure) || error.kind === "refused") throw error;
          await this.#failed(error, { before, downs, retries });
        }
      }
    } finally {
      trials.left(this.#call);
    }
  }

  /** Resolves when the request may be made again. @throws when the call fails. */
  async #failed(
    failure: ServerFailure,
    { before, downs, retries }: { before: number; downs: number; retries: Retries },
  ): Promise<void> {
    const call = this.#call;
    const { health, limits, trials } = this.#server;
    const { signal } = this.#stop;
    this.#server.failed(failure);
    if (failure.retryAfterMs !== undefined) this.#server.pause(failure.retryAfterMs);
    const { tokens } = call.answer;
    if (!call.lost()) throw gone(failure);
    if (call.answer.tokens > before) retries.moved();
    const had = failure.kind !== "unreachable";
    if (had) trials.broke(call);
    let crashed = false;
    try {
      await aborting(health.suspect(), signal);
    } finally {
      crashed = had && health.downs > downs;
      if (crashed) {
        call.crashes++;
        call.crashedTokens = Math.max(call.crashedTokens, tokens);
      }
    }
    if (!crashed) trials.acquitted(call);
    else if (call.crashes >= limits.crashesMax) throw crashedTooOften(call.crashes, failure);
    await sleep(retries.pauseMs(failure, crashed), undefined, { signal });
  }

  /** One stream, to the end of the answer. @throws ServerFailure when it breaks before. */
  async #once(): Promise<void> {
    const call = this.#call;
    this.#server.busy.begin();
    this.streams = true;
    try {
      const request = await this.#request();
      if (request !== undefined) await this.#read(request);
    } catch (error) {
      // All that the answer has was there: only what the server counts is missing.
      if (call.answer.finish === undefined || this.#stop.signal.aborted) throw error;
    } finally {
      this.streams = false;
      this.flows = false;
      this.#server.busy.end();
    }
  }

  /** @returns undefined when the answer turns out to have ended. */
  async #request(): Promise<StreamRequest | undefined> {
    const call = this.#call;
    const { dialect } = this.#server;
    const { byIds } = dialect;
    const { answer, body } = call;
    const resumes = answer.ids.length > 0;
    if (!resumes && !(byIds?.beginsWithIds && call.plain)) return this.#chat(dialect);
    if (byIds === undefined) throw new Error("a call with ids on a dialect without");
    call.promptIds ??= await byIds.promptIds(body, false, this.#stop.signal);
    if (call.promptIds === undefined) {
      if (!resumes) return this.#chat(dialect);
      throw new ServerFailure("refused", "the server does not say the prompt's ids", {
        sentence: "The engine's server does not say the prompt's token ids, so the call cannot be gone on with.",
      });
    }
    call.promptTokens = call.promptIds.length;
    const { completionTokensMax } = call.chat;
    const { contextTokensMax } = this.#server;
    if (call.promptTokens + (completionTokensMax ?? 1) > contextTokensMax) {
      throw tooLong(call.promptTokens, completionTokensMax, contextTokensMax);
    }
    if (resumes && !answer.clean) await this.#complete(byIds, call.promptIds);
    if (answer.finish === undefined && this.#tokensLeft() <= 0) {
      // With what was held back for a stop sequence.
      answer.push({ text: "", ids: [], finish: "length" }, 0);
    }
    if (answer.finish !== undefined) return undefined;
    return byIds.streamFrom({
      body,
      promptIds: resumes ? [...call.promptIds, ...answer.ids] : call.promptIds,
      tokensMax: this.#tokensLeft(),
      priority: this.#priority,
    });
  }

  #chat({ chat }: Dialect): StreamRequest {
    return chat(this.#call.body, this.#priority, this.#call.ownStop.length > 0);
  }

  /** The ids end inside a character. */
  async #complete(byIds: IdDialect, promptIds: readonly number[]): Promise<void> {
    const { answer, body } = this.#call;
    const { signal } = this.#stop;
    const ids = [...answer.ids];
    const whole = await wholeIds((some) => byIds.decode(some, signal), ids);
    if (whole < ids.length && this.#tokensLeft() > 0) {
      const completed = await completeCharacter(
        byIds,
        { body, priority: this.#priority },
        { promptIds, ids, whole, tokensMax: this.#tokensLeft() },
        signal,
      );
      const { finish, endToken } = completed;
      answer.push({ text: completed.text, ids: completed.ids, ...(finish === undefined ? {} : { finish }) }, 0);
      answer.settle();
      if (endToken) this.#call.endedByToken();
    }
    answer.clean = true;
  }

  /** Tokens that the answer may still have. */
  #tokensLeft(): number {
    const { chat, answer, promptTokens } = this.#call;
    const room = this.#server.contextTokensMax - promptTokens;
    return Math.min(chat.completionTokensMax ?? room, room) - answer.ids.length;
  }

  async #read(request: StreamRequest): Promise<void> {
    const call = this.#call;
    const { client, dialect, limits } = this.#server;
    const began = call.answer.tokens;
    const resumes = began > 0;
    let streamTokens = 0;
    let usage: Piece["usage"];
    let isOfEnd = false;
    const end = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const signal = AbortSignal.any([this.#stop.signal, end.signal]);
    try {
      for await (const events of client.stream(request.path, request.body, signal, resumes)) {
        for (const event of events) {
          let piece = request.read(parsed(event, limits.lineCharsMax), resumes);
          if (dialect.byIds?.repair !== undefined && piece.ids !== undefined) {
            piece = await dialect.byIds.repair(piece, streamTokens, signal);
          }
          piece = await this.#untilStop(piece, signal);
          const isFirst = streamTokens === 0;
          streamTokens = this.#take(piece, streamTokens, began);
          if (piece.usage !== undefined) [usage, isOfEnd] = [piece.usage, this.#ends];
          if (isFirst && streamTokens > 0) call.prefilledTokens += call.promptTokens + began;
          this.flows = true;
        }
        if (streamTokens > 0) this.#server.trials.moved(call);
        if (call.answer.finish === undefined) continue;
        // A stop sequence of ours: the server would go on.
        if (!this.#ends) return;
        timer ??= setTimeout(() => end.abort(new Error("no end of the stream")), END_MS_MAX);
      }
    } finally {
      clearTimeout(timer);
      // Some servers tell it with every chunk, and count on: the last one counts. One before the end may lag behind.
      if (usage !== undefined) {
        const counted = began + usage.completionTokens;
        if (this.#ends && (isOfEnd || counted >= call.answer.tokens)) call.countedTokens = counted;
        this.#server.evaluated(usage.promptTokens, usage.cachedTokens);
      } else if (streamTokens > 0) this.#server.evaluated(call.promptTokens + began, undefined);
    }
    if (call.answer.finish === undefined) {
      throw new ServerFailure("broken", "the stream ended before the answer", {
        sentence: "The engine's server closed the stream before the answer's end.",
      });
    }
  }

  async #untilStop(piece: Piece, signal: AbortSignal): Promise<Piece> {
    const { byIds } = this.#server.dialect;
    const { answer } = this.#call;
    if (byIds === undefined) return piece;
    const { ids } = answer;
    return await answer.untilStop(piece, (some) =>
      textFrom((asked) => byIds.decode(asked, signal), [...ids, ...some], ids.length),
    );
  }

  #take(piece: Piece, streamTokens: number, began: number): number {
    const call = this.#call;
    if (piece.delta !== undefined || piece.logprobs !== undefined) {
      if (call.becomeWhole()) throw new NotPlain();
    }
    if (piece.finish !== undefined && call.answer.finish === undefined) this.#ends = true;
    if (piece.promptIds !== undefined && began === 0) {
      call.promptIds = piece.promptIds;
      call.promptTokens = piece.promptIds.length;
    }
    call.answer.push(piece, streamTokens);
    if (this.#ends && piece.endToken === true) call.endedByToken();
    if (piece.usage !== undefined && began === 0) this.#countPrompt(piece.usage);
    return piece.tokensTotal ?? streamTokens + (piece.ids?.length ?? (piece.text === "" ? 0 : 1));
  }

  #countPrompt({ promptTokens, cachedTokens = 0 }: NonNullable<Piece["usage"]>): void {
    this.#call.promptTokens = promptTokens;
    this.#call.cachedTokens = Math.min(cachedTokens, promptTokens);
  }

  #fail(error: unknown): void {
    const call = this.#call;
    if (error instanceof AutellixError) call.error = error;
    else if (error instanceof ServerFailure) call.error = error.toError();
    else call.error = new AutellixError("engine_error", undefined, { cause: error });
    this.#server.gaveUp(call.key, error);
  }
}

/** vLLM: "Got priority 1 but Priority scheduling is not enabled." */
function isOfPriority(error: unknown): boolean {
  return error instanceof ServerFailure && error.status === 400 && /priority scheduling/i.test(error.message);
}

function parsed(event: string, charsMax: number): unknown {
  try {
    return JSON.parse(event);
  } catch (cause) {
    throw new ServerFailure("broken", `an event of ${Math.min(event.length, charsMax)} characters that is no JSON`, {
      sentence: "The engine's server sent what is no JSON.",
      cause,
    });
  }
}

/** The promise, or the signal's reason. */
async function aborting(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
