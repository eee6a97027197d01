/** vLLM and SGLang: OpenAI's API, with token ids in and out. */
import type { Piece } from "./answer.ts";
import type { HttpClient } from "./client.ts";
import { promptOf, samplingOf } from "./continuable.ts";
import {
  choiceOf,
  type Dialect,
  finishOf,
  type IdDialect,
  type IdsRequest,
  type Once,
  readChatChunk,
  readTextChunk,
  type ServerFacts,
  type StreamRequest,
  streamed,
} from "./dialect.ts";
import { failureOf, idList, record, ServerFailure, text } from "./failure.ts";
import { metricSum } from "./metrics.ts";

export interface VllmParts {
  client: HttpClient;
  facts: ServerFacts;
  /** It gives and takes token ids. */
  ids: boolean;
  /** It takes `priority`: lower first. */
  priority: boolean;
  unknownFinish: (reason: string) => void;
}

export function vllm(parts: VllmParts): Dialect {
  const { client, facts, unknownFinish } = parts;
  const { model } = facts;
  let takesPriority = parts.priority;
  const priorityOf = (priority: number) => (takesPriority ? { priority } : {});
  const idsBody = (request: IdsRequest) => ({
    ...samplingOf(request.body),
    model,
    prompt: [...request.promptIds, ...(request.openIds ?? [])],
    max_tokens: request.tokensMax,
    return_token_ids: true,
    ...(request.forcedId === undefined ? {} : { allowed_token_ids: [request.forcedId] }),
    ...priorityOf(request.priority),
  });
  const byIds: IdDialect = {
    beginsWithIds: false,
    async promptIds(body, _free, signal) {
      const reply = await client.json("POST", "/tokenize", { ...promptOf(body), model }, options(signal));
      if (reply.status === 200) return idList(record(reply.json).tokens);
      const failure = failureOf(reply);
      if (failure.kind === "busy") throw failure;
      // What the tokenizer does not take, the chat may: it decides.
      return undefined;
    },
    async decode(ids, signal) {
      if (ids.length === 0) return "";
      const answer = await client.expectJson("POST", "/detokenize", { model, tokens: ids }, options(signal));
      return text(record(answer).prompt);
    },
    streamFrom: (request) => completion(idsBody(request), unknownFinish),
    once: (request, signal) => onceAt(client, idsBody(request), signal, unknownFinish),
  };
  return {
    facts,
    byIds: parts.ids ? byIds : undefined,
    chat: (body, priority, stop) => ({
      path: "/v1/chat/completions",
      body: {
        ...streamed(body, model, stop),
        ...(parts.ids ? { return_token_ids: true } : {}),
        ...priorityOf(priority),
      },
      read: (event, resuming) => readChatChunk(event, resuming, unknownFinish),
    }),
    healthy: () => healthyAt(client, "/health"),
    load: () => metricSum(client, ["vllm:num_requests_running", "vllm:num_requests_waiting"]),
    withoutPriority() {
      takesPriority = false;
    },
    slotsNow: async () => ({ queued: await metricSum(client, ["vllm:num_requests_waiting"]) }),
  };
}

export interface SglangParts {
  client: HttpClient;
  facts: ServerFacts;
  /** It gives and takes token ids in completions, and says the prompt's. */
  ids: boolean;
  /** It splits reasoning from a chat's text, which a completion would show. */
  reasons: boolean;
  unknownFinish: (reason: string) => void;
}

/** SGLang's chat streams bring no ids, so a plain call begins with those of its prompt, which an answer of one token gives. */
export function sglang(parts: SglangParts): Dialect {
  const { client, facts, unknownFinish } = parts;
  const { model } = facts;
  const idsBody = (request: IdsRequest) => ({
    ...samplingOf(request.body),
    model,
    prompt: [...request.promptIds, ...(request.openIds ?? [])],
    max_tokens: request.tokensMax,
    return_token_ids: true,
    ...(request.forcedId === undefined ? {} : { logit_bias: { [request.forcedId]: 100 }, temperature: 0 }),
  });
  const byIds: IdDialect = {
    beginsWithIds: !parts.reasons,
    async promptIds(body, free, signal) {
      if (free) return undefined;
      const asked = { ...body, model, stream: false, max_tokens: 1, return_prompt_token_ids: true };
      const { stream_options: _options, max_completion_tokens: _tokens, ...once } = asked as Record<string, unknown>;
      const reply = await client.json("POST", "/v1/chat/completions", once, { ...options(signal), generates: true });
      // The request is the client's own: what is wrong with it is told as such.
      if (reply.status !== 200) throw failureOf(reply);
      const answer = record(reply.json);
      const choice = choiceOf(answer);
      return idList(choice.prompt_token_ids) ?? idList(answer.prompt_token_ids);
    },
    async decode(ids, signal) {
      if (ids.length === 0) return "";
      const body = { model, tokens: ids, skip_special_tokens: true };
      return text(record(await client.expectJson("POST", "/v1/detokenize", body, options(signal))).text);
    },
    streamFrom: (request) => completion(idsBody(request), unknownFinish),
    once: (request, signal) => onceAt(client, idsBody(request), signal, unknownFinish),
  };
  return {
    facts,
    byIds: parts.ids ? byIds : undefined,
    chat: (body, _priority, stop) => ({
      path: "/v1/chat/completions",
      body: streamed(body, model, stop),
      read: (event, resuming) => readChatChunk(event, resuming, unknownFinish),
    }),
    healthy: () => healthyAt(client, "/health"),
    load: () => metricSum(client, ["sglang:num_running_reqs", "sglang:num_queue_reqs"]),
    slotsNow: async () => ({ queued: await metricSum(client, ["sglang:num_queue_reqs"]) }),
  };
}

/** A server that works says so at once. */
const HEALTH_MS_MAX = 5_000;

export function options(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

export async function healthyAt(client: HttpClient, path: string): Promise<boolean> {
  return (await client.json("GET", path, undefined, { timeoutMs: HEALTH_MS_MAX })).status < 500;
}

function completion(body: Record<string, unknown>, unknownFinish: (reason: string) => void): StreamRequest {
  return {
    path: "/v1/completions",
    body: { ...body, stream: true, stream_options: { include_usage: true } },
    read: (event, resuming): Piece => readTextChunk(event, resuming, unknownFinish),
  };
}

async function onceAt(
  client: HttpClient,
  body: Record<string, unknown>,
  signal: AbortSignal | undefined,
  unknownFinish: (reason: string) => void,
): Promise<Once> {
  const answer = record(
    await client.expectJson("POST", "/v1/completions", body, { ...options(signal), generates: true }),
  );
  const choice = choiceOf(answer);
  const ids = idList(choice.token_ids);
  if (ids === undefined) throw new ServerFailure("broken", "an answer without token ids");
  const { endToken } = readTextChunk({ choices: [choice] }, true, unknownFinish);
  return { ids, finish: finishOf(choice.finish_reason, unknownFinish), endToken: endToken === true };
}
