/**
 * The traced calls among those that are held: notes what happens to them, and sends their spans when they end or leave.
 * A call's span and all below it leave together, so that no death of a process can part them.
 */
import {
  type ChatCall,
  callSpanIds,
  type FinishReason,
  type Plan,
  rootSpan,
  type SentSpan,
  type SpanText,
  spanText,
  tracedCallOf,
} from "@autellix/protocol";
import { LRUCache } from "lru-cache";
import type { Ending } from "./endings.ts";
import type { HeldCall } from "./held-call.ts";
import { LeaderClock } from "./leader-clock.ts";
import { type EndedCall, endedSpan, leftSpans, type SpanPlace, spansBelow } from "./spans.ts";
import type { AgentState } from "./state.ts";
import { Timeline } from "./timeline.ts";

/** Programs whose root this agent has sent; the oldest is forgotten and sent again. */
const ROOTS_MAX = 4_096;
/** Tools that are named per call, and characters of a name that are shown. */
const TOOLS_MAX = 4;
const TOOL_NAME_MAX = 64;

export class Traces {
  readonly #state: AgentState;
  readonly #clock = new LeaderClock();
  readonly #roots = new LRUCache<string, true>({ max: ROOTS_MAX });

  constructor(state: AgentState) {
    this.#state = state;
  }

  /** Before the plan is applied: the leader's clock. */
  received(plan: Plan): void {
    for (const list of [plan.run, plan.reserve, plan.keep]) {
      for (const { dispatch } of list) {
        if (!dispatch?.traced) continue;
        this.#clock.heard(dispatch.traced.atMs, this.#state.nowMs);
        return;
      }
    }
  }

  held(call: HeldCall, level: number | undefined): void {
    const { traced } = call.dispatch;
    const { nowMs, plan } = this.#state;
    if (traced) call.timeline = new Timeline(traced, level, nowMs, plan?.windowSteps ?? 1);
  }

  /** Another leader leads from here on. */
  tookOver(epoch: number): void {
    for (const call of this.#state.held.values()) call.timeline?.tookOver(epoch, this.#state.nowMs);
  }

  /** Its body is read: what it asks for, without its text. */
  read(timeline: Timeline, chat: ChatCall): void {
    timeline.request = {
      "gen_ai.request.max_tokens": chat.completionTokensMax,
      "gen_ai.request.temperature": chat.temperature,
      "gen_ai.request.top_p": chat.topP,
      "gen_ai.request.seed": chat.seed,
    };
    timeline.tools = answeredTools(chat.messages);
  }

  /** Its record is stored. @returns its own span, which the leader keeps for a while. */
  ended(call: HeldCall, ending: Ending, finish: FinishReason | undefined): SpanText | undefined {
    const { timeline, dispatch, address } = call;
    const traced = tracedCallOf(address, dispatch);
    if (!timeline || !traced) return undefined;
    const { nowMs, epoch } = this.#state;
    const { status, outcome, waitingMs } = ending;
    const end = { status, code: outcome.error?.code, finish, storedAtMs: nowMs, epoch, waitingMs };
    const ids = callSpanIds(traced);
    const ended: EndedCall = { traced, ids, call, timeline, end, place: this.#place() };
    const text = spanText(endedSpan(ended));
    const spans: SentSpan[] = [text, () => spansBelow(ended)];
    const { programAtMs } = traced.traced;
    if (this.#isFirst(ids.traceId))
      spans.unshift(() => [rootSpan(address.tenant, traced.program, programAtMs, ids.traceId)]);
    this.#state.emit({ kind: "sendSpans", spans });
    call.timeline = undefined;
    return text;
  }

  /** It goes on elsewhere, or had ended elsewhere. */
  left(call: HeldCall): void {
    const { timeline } = call;
    if (!timeline) return;
    const { nowMs } = this.#state;
    timeline.left(nowMs);
    const place = this.#place();
    this.#state.emit({ kind: "sendSpans", spans: [() => leftSpans(call, timeline, nowMs, place)] });
    call.timeline = undefined;
  }

  #place(): SpanPlace {
    const { engine, info } = this.#state.setup;
    return { engine, model: info.models[0], offsetMs: this.#clock.offsetMs };
  }

  /** Then the program's root is sent, too: the leader has sent it, and may have died before it was out. */
  #isFirst(traceId: string): boolean {
    if (this.#roots.has(traceId)) return false;
    this.#roots.set(traceId, true);
    return true;
  }
}

/** Names of the tools whose answers the messages end with. */
function answeredTools(messages: ChatCall["messages"]): string[] {
  const ids = new Set<string>();
  for (let index = messages.length - 1; index >= 0; index--) {
    const message = messages[index];
    if (message?.role === "tool") {
      if (message.toolCallId !== undefined) ids.add(message.toolCallId);
      continue;
    }
    if (message?.role !== "assistant" || ids.size === 0) return [];
    const names = (message.toolCalls ?? []).filter(({ id }) => ids.has(id)).map(({ function: { name } }) => name);
    return [...new Set(names.map((name) => name.slice(0, TOOL_NAME_MAX)))].slice(0, TOOLS_MAX);
  }
  return [];
}
