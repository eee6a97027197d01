/**
 * From a plan's entry to a call that can be stepped: its body and its outcome (a redelivery has ended already), for a
 * resumed attempt what its frontend has shown (S2), then the engine's count of its tokens.
 */
import {
  AutellixError,
  type CallKey,
  type Dispatch,
  decode,
  type Encoding,
  type ErrorCode,
  encodingOf,
  type HaveAnswer,
  parseChat,
  type ReadResult,
} from "@autellix/protocol";
import type { Contexts } from "./contexts.ts";
import { type Endings, isTerminal } from "./endings.ts";
import type { FetchedBody, Happening } from "./events.ts";
import type { Frontends } from "./frontends.ts";
import { HeldCall } from "./held-call.ts";
import { HAVE_MS_MAX, HAVE_MS_MIN, retryMs } from "./limits.ts";
import { cancelled } from "./outcome.ts";
import type { AgentState } from "./state.ts";
import type { Tokens } from "./tokens.ts";

type Opened = Extract<Happening, { kind: "opened" }>;

export class Starts {
  readonly #state: AgentState;
  readonly #contexts: Contexts;
  readonly #endings: Endings;
  readonly #frontends: Frontends;
  readonly #tokens: Tokens;
  /** Held calls that have asked for nothing yet. */
  readonly #waiting = new Set<HeldCall>();
  /** Those that go on from a context which is being moved. */
  readonly #waitingForContext = new Set<HeldCall>();

  constructor(
    state: AgentState,
    parts: { contexts: Contexts; endings: Endings; frontends: Frontends; tokens: Tokens },
  ) {
    this.#state = state;
    this.#contexts = parts.contexts;
    this.#endings = parts.endings;
    this.#frontends = parts.frontends;
    this.#tokens = parts.tokens;
  }

  /** @param level its queue, of a traced call. */
  hold(key: CallKey, attempt: number, dispatch: Dispatch, level?: number): void {
    const call = new HeldCall(this.#state.newId(), this.#state.setup.pool, key, attempt, dispatch, this.#state.nowMs);
    this.#state.add(call);
    this.#state.traces?.held(call, level);
    this.#waiting.add(call);
    if (call.frontend !== undefined) this.#frontends.watch();
  }

  /** At the end of each reaction: begins what was taken on, while unsent results leave room. */
  beginWaiting(): void {
    for (const call of [...this.#waitingForContext]) {
      this.#waitingForContext.delete(call);
      if (this.#state.held.get(call.id) === call && call.phase === "starting") this.#openWhenReady(call);
    }
    for (const call of this.#waiting) {
      if (!this.#state.mayBegin()) return;
      this.#waiting.delete(call);
      if (this.#state.held.get(call.id) !== call || call.phase !== "starting") continue;
      this.#fetch(call);
      if (call.forcedIds === undefined) this.#askHave(call);
    }
  }

  #fetch(call: HeldCall): void {
    const { seq, bodyObject } = call.dispatch;
    call.fetchAsked = true;
    this.#state.emit({ kind: "fetch", id: call.id, address: call.address, seq, bodyObject });
  }

  fetched(call: HeldCall, body: FetchedBody, outcome: ReadResult): void {
    if (call.phase !== "starting" || call.opens !== undefined) return;
    if (outcome.kind === "found" && isTerminal(outcome.record)) {
      this.#endings.found(call, outcome.record);
      return;
    }
    switch (body.kind) {
      case "unknown":
        this.#fetchLater(call);
        return;
      case "gone":
        // It was acked, so a terminal record was stored; any replica may lack it, the leader does not.
        this.#state.emit({ kind: "readOutcome", id: call.id, address: call.address });
        return;
      case "failed":
        this.#fail(call, body.code, body.message);
        return;
      case "found":
        this.#take(call, body.bytes, body.encoding);
    }
  }

  #fetchLater(call: HeldCall): void {
    call.stuck = true;
    call.fetchTries++;
    this.#state.timers.set(`start ${call.id}`, this.#state.nowMs + retryMs(call.fetchTries), () => this.#fetch(call));
  }

  /** The leader's word on a call that is no longer in CALLS. */
  outcomeRead(call: HeldCall, result: ReadResult): void {
    if (call.phase !== "starting") return;
    if (result.kind === "unknown") this.#fetchLater(call);
    else if (result.kind === "none") this.#endings.foundNothing(call);
    else if (isTerminal(result.record)) this.#endings.found(call, result.record);
    else this.#fail(call, "result_expired", "The call's body is no longer stored.");
  }

  #take(call: HeldCall, bytes: Uint8Array, encoding: Encoding | undefined): void {
    try {
      const value = decode(bytes);
      call.encoding = encoding ?? encodingOf(bytes);
      const chat = toChat(value, this.#state.setup.info.models);
      call.opens = { chat, body: value as Record<string, unknown> };
      call.model = chat.model;
      if (call.timeline) this.#state.traces?.read(call.timeline, chat);
    } catch (error) {
      if (!(error instanceof AutellixError)) throw error;
      // Bytes that are neither JSON nor msgpack say nothing about what their publisher can read.
      if (error.code === "invalid_json") call.encoding = encoding ?? "json";
      this.#fail(call, error.code, error.message, error.param);
      return;
    }
    this.#openWhenReady(call);
  }

  #askHave(call: HeldCall): void {
    const frontend = call.frontend;
    if (frontend === undefined) throw new Error(`call ${call.name} has no frontend to ask`);
    const { key, attempt, id } = call;
    // What an earlier holding of this attempt generated here must not come behind the answer.
    this.#tokens.flush();
    this.#state.emit({ kind: "askHave", id, frontend, call: key, epoch: this.#state.epoch, attempt });
  }

  haveAnswered(call: HeldCall, answer: HaveAnswer | undefined): void {
    if (call.phase !== "starting" || call.forcedIds !== undefined) return;
    if (answer === undefined) {
      // It never starts over in front of a frontend: it asks until it hears, or until the leader cancels the call.
      call.stuck = true;
      call.haveTries++;
      const atMs = this.#state.nowMs + retryMs(call.haveTries, HAVE_MS_MIN, HAVE_MS_MAX);
      this.#state.timers.set(`have ${call.id}`, atMs, () => this.#askHave(call));
      return;
    }
    this.#frontends.answered(call.frontend ?? "", true);
    if (answer.state === "gone") {
      this.#endings.end(call, cancelled("unread"));
      return;
    }
    const ids = answer.ids ?? [];
    if (ids.length !== answer.count) {
      this.#fail(call, "engine_error", "The answer was begun on an engine without token ids; it cannot be resumed.");
      return;
    }
    call.forcedIds = ids;
    this.#openWhenReady(call);
  }

  #openWhenReady(call: HeldCall): void {
    const { id, key, opens, forcedIds } = call;
    if (opens === undefined || forcedIds === undefined) return;
    call.stuck = false;
    const context = this.#contexts.continuedBy(call);
    if (context && (!context.settled || this.#state.moving.has(context.id))) {
      this.#waitingForContext.add(call);
      return;
    }
    if (context) this.#contexts.takeOver(context, call);
    call.phase = "opening";
    call.opens = undefined;
    this.#state.emit({ kind: "open", id, key, ...opens, forcedIds, continues: context?.id });
  }

  opened({ id, promptTokens, cachedTokens, forcedText, forcedDeltas, context }: Opened): void {
    this.#contexts.opened(id);
    const call = this.#state.held.get(id);
    if (call?.phase !== "opening") {
      // Dropped or cancelled meanwhile: the engine must not keep it.
      this.#state.emit({ kind: "close", id });
      return;
    }
    call.phase = "ready";
    call.opened = true;
    call.promptTokens = promptTokens;
    call.cachedTokens = cachedTokens;
    if (call.timeline) call.timeline.openedAtMs = this.#state.nowMs;
    this.#contexts.place(call, context);
    const forced = call.forcedIds ?? [];
    if (forced.length > 0)
      call.tokens.add({ count: forced.length, text: forcedText, ids: forced, deltas: forcedDeltas });
    call.completionTokens = forced.length;
  }

  openFailed({ id, code, message, param }: Extract<Happening, { kind: "openFailed" }>): void {
    this.#contexts.opened(id);
    const call = this.#state.held.get(id);
    if (call?.phase === "opening") this.#fail(call, code, message, param);
  }

  #fail(call: HeldCall, code: ErrorCode, message: string, param?: string): void {
    this.#endings.end(call, {
      status: "failed",
      error: { code, message, ...(param === undefined ? {} : { param }) },
    });
  }
}

/** @throws AutellixError as `parseChat`, and `model_not_found` when it names a model that this engine does not serve. */
function toChat(value: unknown, models: readonly string[]) {
  const chat = parseChat(value);
  if (chat.model !== undefined && !models.includes(chat.model)) {
    throw new AutellixError("model_not_found", "This pool does not serve the model that the call names.", {
      param: "model",
    });
  }
  return chat;
}
