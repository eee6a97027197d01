/** What the HTTP engine needs of a kind of server, and what those that speak OpenAI's chat have in common. */
import type { EngineInfo, FinishReason } from "@autellix/protocol";
import type { Piece } from "./answer.ts";
import { count, idList, record, refuseErrors, ServerFailure, text } from "./failure.ts";
import type { DialectName } from "./options.ts";

/** A request that is streamed. */
export interface StreamRequest {
  path: string;
  body: Record<string, unknown>;
  /**
   * One event of its stream.
   * @param resuming the request is ours, not the client's.
   * @throws ServerFailure when the event tells an error.
   */
  read(event: unknown, resuming: boolean): Piece;
}

/** An answer from ids that is not streamed. */
export interface Once {
  ids: readonly number[];
  finish: FinishReason | undefined;
  /** With `finish`: the last id is the end token. */
  endToken: boolean;
}

export interface IdsRequest {
  /** The client's request, for its sampling parameters. */
  body: Readonly<Record<string, unknown>>;
  promptIds: readonly number[];
  /** Behind the prompt's: the beginning of a character, with which the answer goes on. Of `once` only. */
  openIds?: readonly number[];
  /** Beside those. */
  tokensMax: number;
  /** The server must generate this token and no other. */
  forcedId?: number;
  priority: number;
}

/** What a server said of itself. */
export interface ServerFacts {
  name: DialectName;
  /** Its own name of the model that we use. */
  model: string;
  info: Pick<EngineInfo, "kvBlocks" | "blockTokens" | "contextTokensMax">;
  slots: number | undefined;
  /** What could not be found out, in words for a log. */
  notes: string[];
}

/** A dialect that takes token ids and gives them: calls can be gone on with exactly. */
export interface IdDialect {
  /** The answer's tokens are the text that the chat would show: a plain call may begin with ids, too. */
  beginsWithIds: boolean;
  /** Token ids of the prompt; undefined when the server does not say. @param free without computing anything. */
  promptIds(
    body: Readonly<Record<string, unknown>>,
    free: boolean,
    signal?: AbortSignal,
  ): Promise<number[] | undefined>;
  /** Broken bytes become U+FFFD. @throws ServerFailure `refused` when an id is not of this model. */
  decode(ids: readonly number[], signal?: AbortSignal): Promise<string>;
  streamFrom(request: IdsRequest): StreamRequest;
  once(request: IdsRequest, signal?: AbortSignal): Promise<Once>;
  /** Puts right what the server left out of a piece. @param streamTokens tokens of the stream before it. */
  repair?(piece: Piece, streamTokens: number, signal: AbortSignal): Promise<Piece>;
}

export interface Dialect {
  readonly facts: ServerFacts;
  /** Undefined: chats only, which cannot be gone on with. */
  readonly byIds: IdDialect | undefined;
  /** The request as it came, but for what streaming and resuming need. @param stop ours: the server does not get it. */
  chat(body: Readonly<Record<string, unknown>>, priority: number, stop: boolean): StreamRequest;
  /** True when the server works. @throws ServerFailure when it cannot be asked. */
  healthy(): Promise<boolean>;
  /** Requests that the server holds now, running or waiting; undefined when it does not say. */
  load(): Promise<number | undefined>;
  /** It took priorities when it was found, and does not any more: it was started again without them. */
  withoutPriority?(): void;
  /** Slots that the server has now, and requests that it keeps waiting; each undefined when it does not say. */
  slotsNow?(): Promise<SlotsNow>;
}

export interface SlotsNow {
  slots?: number | undefined;
  queued?: number | undefined;
}

/** What a request needs so that it can be streamed, counted and resumed. */
export function streamed(
  body: Readonly<Record<string, unknown>>,
  model: string,
  stop: boolean,
): Record<string, unknown> {
  const { stop: given, ...rest } = body;
  return {
    ...rest,
    ...(stop || given === undefined ? {} : { stop: given }),
    model,
    stream: true,
    stream_options: { ...record(body.stream_options), include_usage: true },
  };
}

const FINISHES: Record<string, FinishReason> = {
  stop: "stop",
  length: "length",
  tool_calls: "tool_calls",
  function_call: "function_call",
  content_filter: "content_filter",
};
/** The server gave the call up: nothing that a client should see as an end. */
const GIVEN_UP = new Set(["abort", "error"]);

export function finishOf(value: unknown, unknown: (reason: string) => void): FinishReason | undefined {
  if (value === null || value === undefined || value === "") return undefined;
  const reason = String(value);
  if (GIVEN_UP.has(reason)) {
    throw new ServerFailure("broken", "the server gave the call up", {
      sentence: "The engine's server gave the call up.",
    });
  }
  const known = Object.hasOwn(FINISHES, reason) ? FINISHES[reason] : undefined;
  if (known === undefined) unknown(reason.slice(0, 40));
  return known ?? "stop";
}

/** Of a chunk or an answer. We ask for one; a server may send chunks of others, of speculation or of its own. */
export function choiceOf({ choices }: Record<string, unknown>): Record<string, unknown> {
  const all = Array.isArray(choices) ? choices.map(record) : [];
  return all.find(({ index }) => index === 0 || index === undefined || index === null) ?? {};
}

/** One chunk of OpenAI's chat stream, with vLLM's ids where they are. */
export function readChatChunk(event: unknown, resuming: boolean, unknownFinish: (reason: string) => void): Piece {
  const chunk = refuseErrors(event, resuming);
  const choice = choiceOf(chunk);
  const { role: _role, content, ...others } = record(choice.delta);
  const said = saidIn(content);
  const delta = Object.fromEntries(
    Object.entries({ ...(said.thought === "" ? {} : { reasoning_content: said.thought }), ...others }).filter(
      ([, value]) => says(value),
    ),
  );
  const finish = finishOf(choice.finish_reason, unknownFinish);
  const ids = idList(choice.token_ids);
  const promptIds = idList(chunk.prompt_token_ids) ?? idList(choice.prompt_token_ids);
  const usage = usageOf(chunk.usage);
  return {
    text: said.text,
    ids,
    ...(Object.keys(delta).length === 0 ? {} : { delta }),
    ...(says(choice.logprobs) ? { logprobs: choice.logprobs } : {}),
    ...(finish === undefined ? {} : { finish, endToken: endsByToken(choice) }),
    ...(promptIds === undefined ? {} : { promptIds }),
    ...(usage === undefined ? {} : { usage }),
  };
}

/** Text, or a list of its parts, of which some may be thoughts (Mistral's reasoning models). */
function saidIn(content: unknown): { text: string; thought: string } {
  if (!Array.isArray(content)) return { text: text(content), thought: "" };
  const parts = content.map(record);
  const joined = (values: readonly unknown[]) => values.map(text).join("");
  return {
    text: joined(parts.map((part) => part.text)),
    thought: joined(
      parts.flatMap(({ thinking }) => (Array.isArray(thinking) ? thinking.map((one) => record(one).text) : [thinking])),
    ),
  };
}

/** One chunk of OpenAI's completion stream, as vLLM and SGLang extend it. */
export function readTextChunk(event: unknown, resuming: boolean, unknownFinish: (reason: string) => void): Piece {
  const chunk = refuseErrors(event, resuming);
  const choice = choiceOf(chunk);
  const finish = finishOf(choice.finish_reason, unknownFinish);
  const usage = usageOf(chunk.usage);
  return {
    text: text(choice.text),
    ids: idList(choice.token_ids),
    ...(finish === undefined ? {} : { finish, endToken: endsByToken(choice) }),
    ...(usage === undefined ? {} : { usage }),
  };
}

const ENDED_BY_TOKEN: ReadonlySet<unknown> = new Set<FinishReason>(["stop", "tool_calls", "function_call"]);

/**
 * vLLM's `stop_reason`, SGLang's `matched_stop`: text when a stop sequence ended the answer; else, at "stop", its last
 * token did.
 */
function endsByToken(choice: Record<string, unknown>): boolean {
  const by = choice.stop_reason ?? choice.matched_stop;
  return ENDED_BY_TOKEN.has(choice.finish_reason) && typeof by !== "string";
}

export function usageOf(value: unknown): Piece["usage"] {
  const usage = record(value);
  const promptTokens = count(usage.prompt_tokens);
  const completionTokens = count(usage.completion_tokens);
  if (promptTokens === undefined || completionTokens === undefined) return undefined;
  return { promptTokens, completionTokens, cachedTokens: count(record(usage.prompt_tokens_details).cached_tokens) };
}

/** Empty fields come with every chunk of some servers. */
function says(value: unknown): boolean {
  return value !== null && value !== undefined && value !== "" && !(Array.isArray(value) && value.length === 0);
}
