/** What a server is and what it can hold, as it says itself. */
import type { HttpClient, Reply, RequestOptions } from "./client.ts";
import { choiceOf, type Dialect, type ServerFacts } from "./dialect.ts";
import { failureOf, idList, number, record, ServerFailure, text } from "./failure.ts";
import { llamaServer } from "./llama-server.ts";
import { samplesOf } from "./metrics.ts";
import { openai } from "./openai.ts";
import { CONTEXT_TOKENS_UNKNOWN, type DialectName } from "./options.ts";
import { sglang, vllm } from "./vllm.ts";

export interface Wanted {
  dialect: DialectName | "auto";
  models: readonly string[];
  slots: number | undefined;
  contextTokensMax: number | undefined;
  unknownFinish: (reason: string) => void;
}

const BLOCK_TOKENS = 16;
/** Of a server's other models, in a note. */
const NAMED_MAX = 5;
/** The one 5xx that does not pass. */
const NOT_IMPLEMENTED = 501;
/** Where a template or server splits reasoning from the answer. */
const REASONING = /think|reason|<\|channel\|>/i;

interface ListedModel {
  id: string;
  ownedBy: string;
  contextTokensMax: number | undefined;
}

/**
 * @throws ServerFailure while the server cannot be asked (it may be starting), `refused` when it refuses us.
 * @throws Error when it is not what it should be.
 */
export async function discover(client: HttpClient, wanted: Wanted): Promise<Dialect> {
  const listed = await modelsOf(client);
  const name = wanted.dialect === "auto" ? await dialectOf(client, listed) : wanted.dialect;
  const named = listed.find(({ id }) => wanted.models.includes(id));
  const model = named ?? listed[0];
  if (model === undefined) throw new Error("The server lists no model.");
  const dialect = await dialectFor(client, name, model, wanted);
  if (named === undefined && listed.length > 1) {
    const others = listed.slice(1, 1 + NAMED_MAX).map(({ id }) => `"${id}"`);
    dialect.facts.notes.push(
      `it lists ${listed.length} models and none was named by its own name: the first is used, not ${others.join(", ")}`,
    );
  }
  return dialect;
}

async function dialectFor(client: HttpClient, name: DialectName, model: ListedModel, wanted: Wanted): Promise<Dialect> {
  switch (name) {
    case "vllm":
      return await discoverVllm(client, model, wanted);
    case "sglang":
      return await discoverSglang(client, model, wanted);
    case "llama-server":
      return await discoverLlamaServer(client, model, wanted);
    case "openai":
      return openai(
        client,
        factsOf("openai", model, wanted, { slots: undefined, contextTokensMax: model.contextTokensMax }),
        wanted.unknownFinish,
      );
  }
}

/**
 * An answer that says whether the server can do something. One that says "not now" would stay true for the agent's life.
 * @throws ServerFailure `busy`, after which all is asked again.
 */
async function settled(
  client: HttpClient,
  method: "GET" | "POST",
  path: string,
  body?: unknown,
  options: RequestOptions = {},
): Promise<Reply> {
  const reply = await client.json(method, path, body, options);
  if (reply.status === NOT_IMPLEMENTED || reply.status < 400) return reply;
  const failure = failureOf(reply, true);
  if (failure.kind === "busy") throw failure;
  return reply;
}

async function modelsOf(client: HttpClient): Promise<ListedModel[]> {
  const reply = await client.json("GET", "/v1/models");
  const { status } = reply;
  if (status === 404 || (status >= 300 && status < 400)) {
    const said = status === 404 ? "has no /v1/models" : "sends requests for /v1/models elsewhere";
    throw new Error(`${client.base.origin}${client.base.pathname} ${said} (status ${status}): is it the server's URL?`);
  }
  if (status !== 200) throw failureOf(reply, true);
  const { data } = record(reply.json);
  if (!Array.isArray(data)) throw new Error("The server's /v1/models is not a list of models as OpenAI's API has it.");
  return data.map((value) => {
    const { id, owned_by, max_model_len, meta } = record(value);
    return {
      id: text(id),
      ownedBy: text(owned_by),
      contextTokensMax: number(max_model_len) ?? number(record(meta).n_ctx),
    };
  });
}

const OWNERS: Record<string, DialectName> = { vllm: "vllm", sglang: "sglang", llamacpp: "llama-server" };

async function dialectOf(client: HttpClient, listed: readonly ListedModel[]): Promise<DialectName> {
  for (const { ownedBy } of listed) {
    if (Object.hasOwn(OWNERS, ownedBy)) return OWNERS[ownedBy] as DialectName;
  }
  const has = async (path: string, field: string) =>
    record((await settled(client, "GET", path)).json)[field] !== undefined;
  if (await has("/props", "total_slots")) return "llama-server";
  if (await has("/get_server_info", "max_total_num_tokens")) return "sglang";
  const { status, json } = await settled(client, "GET", "/version");
  if (status === 200 && record(json).version !== undefined && (await cacheConfig(client)).length > 0) return "vllm";
  return "openai";
}

interface Held {
  slots: number | undefined;
  contextTokensMax: number | undefined;
  kvTokens?: number | undefined;
  blockTokens?: number | undefined;
  notes?: string[];
}

function factsOf(name: DialectName, model: ListedModel, wanted: Wanted, held: Held): ServerFacts {
  const notes = [...(held.notes ?? [])];
  const slots = slotsOf(name, wanted.slots, held.slots, notes);
  const own = held.contextTokensMax ?? model.contextTokensMax;
  if (own === undefined && wanted.contextTokensMax === undefined) {
    notes.push(`it does not say how long its context is: ${CONTEXT_TOKENS_UNKNOWN} tokens are assumed`);
  }
  const contextTokensMax = Math.min(
    wanted.contextTokensMax ?? Number.POSITIVE_INFINITY,
    own ?? wanted.contextTokensMax ?? CONTEXT_TOKENS_UNKNOWN,
  );
  const blockTokens = held.blockTokens ?? BLOCK_TOKENS;
  const kvTokens = held.kvTokens ?? slots * contextTokensMax;
  if (held.kvTokens === undefined)
    notes.push("it does not say how much KV it has: full contexts in all slots are assumed");
  const kvBlocks = Math.max(1, Math.floor(kvTokens / blockTokens));
  return { name, model: model.id, slots, info: { kvBlocks, blockTokens, contextTokensMax }, notes };
}

function slotsOf(name: DialectName, wanted: number | undefined, own: number | undefined, notes: string[]): number {
  if (own !== undefined && wanted !== undefined && wanted > own) {
    notes.push(`it has ${own} slots: ${wanted} were asked for, ${own} are used`);
  }
  const slots = own === undefined ? wanted : Math.min(own, wanted ?? own);
  if (slots === undefined) {
    const how = name === "vllm" ? " (vLLM: what it was started with as --max-num-seqs)" : "";
    throw new Error(
      `The server does not say how many requests it computes together. Say it with --slots${how}: beyond that number a server queues by itself, in its own order.`,
    );
  }
  return slots;
}

const cacheConfig = async (client: HttpClient) => {
  const { status, text } = await settled(client, "GET", "/metrics");
  return status === 200 ? samplesOf(text, "vllm:cache_config_info") : [];
};

async function discoverVllm(client: HttpClient, model: ListedModel, wanted: Wanted): Promise<Dialect> {
  // One sample for each engine of a data-parallel server.
  const configs = await cacheConfig(client);
  const blockTokens = Number(configs[0]?.labels.block_size) || undefined;
  const kvTokens = configs.reduce((sum, { labels }) => {
    const blocks = Number(labels.num_gpu_blocks) * Number(labels.block_size);
    return sum + (Number(labels.kv_cache_size_tokens) || blocks || 0);
  }, 0);
  const facts = factsOf("vllm", model, wanted, {
    slots: undefined,
    contextTokensMax: model.contextTokensMax,
    kvTokens: kvTokens > 0 ? kvTokens : undefined,
    blockTokens,
    notes: configs.length > 0 ? [] : ["it has no /metrics: traffic that is not ours is not seen"],
  });
  const { ids, priority } = await tryVllm(client, model.id);
  if (!ids) facts.notes.push("it gives no token ids: calls can be stopped only before their first token");
  return vllm({ client, facts, ids, priority, unknownFinish: wanted.unknownFinish });
}

/** One token, to see what this version takes. */
async function tryVllm(client: HttpClient, model: string): Promise<{ ids: boolean; priority: boolean }> {
  const some = await settled(client, "POST", "/tokenize", { model, prompt: "a" });
  const prompt = some.status === 200 ? (idList(record(some.json).tokens) ?? []) : [];
  if (prompt.length === 0) return { ids: false, priority: false };
  const ask = (more: Record<string, unknown>) =>
    settled(
      client,
      "POST",
      "/v1/completions",
      { model, prompt, max_tokens: 1, return_token_ids: true, ...more },
      { generates: true },
    );
  const first = await ask({ priority: 1 });
  const reply = first.status === 200 ? first : await ask({});
  if (reply.status !== 200) throw failureOf(reply, true);
  return { ids: hasIds(reply.json), priority: first.status === 200 };
}

function hasIds(answer: unknown): boolean {
  return idList(choiceOf(record(answer)).token_ids) !== undefined;
}

async function discoverSglang(client: HttpClient, model: ListedModel, wanted: Wanted): Promise<Dialect> {
  let reply = await client.json("GET", "/get_server_info");
  if (reply.status === 404) reply = await client.json("GET", "/server_info");
  if (reply.status !== 200) throw failureOf(reply, true);
  const info = record(reply.json);
  const states = Array.isArray(info.internal_states) ? info.internal_states.map(record) : [];
  const state = (field: string) => states.map((one) => number(one[field])).find((value) => value !== undefined);
  const facts = factsOf("sglang", model, wanted, {
    slots: number(info.max_running_requests) ?? state("max_running_requests"),
    contextTokensMax: model.contextTokensMax ?? number(info.context_length),
    kvTokens: number(info.max_total_num_tokens) ?? state("max_total_num_tokens"),
  });
  const ids = await trySglang(client, model.id);
  if (!ids) facts.notes.push("it gives no token ids: calls can be stopped only before their first token");
  const reasons = text(info.reasoning_parser) !== "";
  return sglang({ client, facts, ids, reasons, unknownFinish: wanted.unknownFinish });
}

async function trySglang(client: HttpClient, model: string): Promise<boolean> {
  const messages = [{ role: "user", content: "a" }];
  const chat = { model, messages, max_tokens: 1, return_prompt_token_ids: true };
  const first = await settled(client, "POST", "/v1/chat/completions", chat, { generates: true });
  const answer = record(first.json);
  const prompt = idList(choiceOf(answer).prompt_token_ids) ?? idList(answer.prompt_token_ids);
  if (first.status !== 200 || prompt === undefined) return false;
  const asked = { model, prompt, max_tokens: 1, return_token_ids: true };
  const reply = await settled(client, "POST", "/v1/completions", asked, { generates: true });
  return reply.status === 200 && hasIds(reply.json);
}

async function discoverLlamaServer(client: HttpClient, model: ListedModel, wanted: Wanted): Promise<Dialect> {
  const reply = await client.json("GET", "/props");
  if (reply.status !== 200) throw failureOf(reply, true);
  const props = record(reply.json);
  const slots = number(props.total_slots);
  if (slots === undefined) throw new Error("The server's /props do not say total_slots: it is no llama-server.");
  const contextTokensMax = number(record(props.default_generation_settings).n_ctx) ?? model.contextTokensMax;
  const facts = factsOf("llama-server", model, wanted, {
    slots,
    contextTokensMax,
    kvTokens: contextTokensMax === undefined ? undefined : slots * contextTokensMax,
  });
  const reasons = REASONING.test(text(props.chat_template));
  if (reasons) facts.notes.push("its template knows reasoning: calls can be stopped only before their first token");
  return llamaServer({ client, facts, reasons, unknownFinish: wanted.unknownFinish });
}

/** Whether the server is worth another try soon. */
export function isPassing(error: unknown): boolean {
  return error instanceof ServerFailure && error.kind !== "refused";
}
