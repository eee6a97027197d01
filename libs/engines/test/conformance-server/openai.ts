/** vLLM, SGLang and plain OpenAI, as far as they differ. */
import type { ServerResponse } from "node:http";
import { type ConformanceServer, event, type Generation, send } from "./index.ts";
import { Detokenizer, decode, END_ID, encode, render, START_ID, VOCABULARY } from "./model.ts";

type Body = Record<string, unknown>;

/** @returns false for an unknown path. */
export async function answerOpenai(
  server: ConformanceServer,
  path: string,
  body: Body,
  response: ServerResponse,
): Promise<boolean> {
  const { dialect } = server.options;
  const reply = (value: unknown) => {
    send(response, 200, value);
    return true;
  };
  switch (path) {
    case "/v1/models":
      return reply({
        object: "list",
        data: server.options.models.map((id) => ({
          id,
          object: "model",
          owned_by: dialect === "openai" ? "someone" : dialect,
          ...(dialect === "openai" ? {} : { max_model_len: server.options.contextTokensMax }),
        })),
      });
    case "/v1/chat/completions":
    case "/v1/completions":
      await complete(server, path, body, response);
      return true;
    case "/metrics":
      if (dialect === "openai") return false;
      return reply(metrics(server));
  }
  if (dialect === "vllm") return answerVllm(server, path, body, reply);
  if (dialect === "sglang") return answerSglang(server, path, body, reply);
  return false;
}

function answerVllm(server: ConformanceServer, path: string, body: Body, reply: (value: unknown) => boolean): boolean {
  switch (path) {
    case "/version":
      return reply({ version: "0.0.0-conformance" });
    case "/tokenize": {
      const tokens = body.messages === undefined ? encode(String(body.prompt)) : promptIds(body);
      return reply({ count: tokens.length, max_model_len: server.options.contextTokensMax, tokens });
    }
    case "/detokenize":
      return reply({ prompt: decode(body.tokens as number[], true) });
  }
  return false;
}

function answerSglang(
  server: ConformanceServer,
  path: string,
  body: Body,
  reply: (value: unknown) => boolean,
): boolean {
  switch (path) {
    case "/get_server_info":
      return reply({
        max_total_num_tokens: 4_096,
        max_running_requests: server.options.slots,
        context_length: server.options.contextTokensMax,
        reasoning_parser: null,
        ...server.options.extra,
      });
    case "/v1/detokenize":
      return reply({ text: decode(body.tokens as number[]) });
  }
  return false;
}

function metrics({ options, running, foreign }: ConformanceServer): string {
  return options.dialect === "vllm"
    ? [
        "# TYPE vllm:num_requests_running gauge",
        `vllm:num_requests_running{engine="0",model_name="conformance"} ${running + foreign}.0`,
        'vllm:num_requests_waiting{engine="0",model_name="conformance"} 0.0',
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0',
        'vllm:cache_config_info{block_size="32",cache_dtype="a\\"b",engine="0",num_gpu_blocks="64"} 1.0',
      ].join("\n")
    : `sglang:num_running_reqs{model="conformance"} ${running + foreign}.0\nsglang:num_queue_reqs 0.0`;
}

function promptIds(body: Body): number[] {
  const tools = Array.isArray(body.tools) && body.tools.length > 0 ? JSON.stringify(body.tools) : "";
  return [START_ID, ...encode(tools + render(body.messages as { role: string; content: unknown }[]))];
}

async function complete(server: ConformanceServer, path: string, body: Body, response: ServerResponse): Promise<void> {
  const { options } = server;
  if (!server.begins(path, body, response)) return;
  const bad = (message: string, status = 400, type = "BadRequestError") =>
    send(response, status, { error: { message, type, param: null, code: status } });
  if (body.priority !== undefined && options.noPriority) return bad("Got priority 1 but priority scheduling is off.");
  if (!options.models.includes(String(body.model))) return bad("The model does not exist.", 404, "NotFoundError");
  const prompt = path === "/v1/completions" ? (body.prompt as number[]) : promptIds(body);
  if (prompt.some((id) => id >= VOCABULARY)) return bad("Token id is out of vocabulary");
  const room = options.contextTokensMax - prompt.length;
  const asked = (body.max_completion_tokens ?? body.max_tokens ?? (path === "/v1/completions" ? 16 : room)) as number;
  if (asked > room || room < 1) {
    return bad(`This model's maximum context length is ${options.contextTokensMax} tokens. Secret: ${body.prompt}`);
  }
  const biases = Object.entries((body.logit_bias ?? {}) as Record<string, number>);
  const bias = biases.filter(([, value]) => value >= 100).map(([id]) => Number(id));
  const allowed = (body.allowed_token_ids as number[] | undefined) ?? (bias.length > 0 ? bias : undefined);
  const generation: Generation = {
    prompt,
    ids: [],
    tokensMax: asked,
    sampling: {
      temperature: server.mischief.drifts === true ? 1 : ((body.temperature ?? 1) as number),
      seed: body.seed as number | undefined,
      allowed,
      ignoreEnd: body.ignore_eos === true,
    },
  };
  if (body.stream === true) await stream(server, path, body, generation, response);
  else await once(server, body, generation, response);
}

/** A stop sequence in what is not sent yet. */
function stopAt(text: string, body: Body): number {
  const stops = typeof body.stop === "string" ? [body.stop] : ((body.stop ?? []) as string[]);
  const at = stops.map((stop) => text.indexOf(stop)).filter((found) => found >= 0);
  return at.length === 0 ? -1 : Math.min(...at);
}

async function stream(
  server: ConformanceServer,
  path: string,
  body: Body,
  generation: Generation,
  response: ServerResponse,
): Promise<void> {
  const { options, mischief } = server;
  const chat = path === "/v1/chat/completions";
  const streaming = (body.stream_options ?? {}) as Body;
  const withIds = body.return_token_ids === true && !options.noIds && !(chat && options.dialect === "sglang");
  const choices = (choice: Body, more: Body = {}) =>
    event(response, {
      object: "chunk",
      choices: [{ index: 0, finish_reason: null, logprobs: null, ...choice }],
      ...more,
    });
  server.opens(response);
  if (chat) {
    const more = withIds ? { prompt_token_ids: generation.prompt } : {};
    choices({ delta: { role: "assistant", content: "", tool_calls: [], reasoning_content: null } }, more);
  }
  const detokenizer = new Detokenizer(generation.prompt);
  let held = "";
  let stopped = false;
  let first = true;
  for await (const ids of server.generate(generation, response, true)) {
    const text = ids.map((id) => (id === END_ID ? "" : detokenizer.push(id))).join("");
    held += text;
    const at = stopAt(held, body);
    const ended = ids.at(-1) === END_ID;
    const full = generation.ids.length >= generation.tokensMax;
    // Real servers hold back what could begin a stop sequence; here all but the last tokens, which is enough.
    const show = at >= 0 ? held.slice(0, at) : body.stop === undefined || ended || full ? held : "";
    if (at >= 0 || show !== "") held = "";
    stopped = at >= 0;
    const reason = mischief.finishReason ?? (hasTools(body) ? "tool_calls" : "stop");
    const finish = stopped ? "stop" : ended ? reason : full ? "length" : null;
    if (finish !== null && mischief.tellsNoCount === "was told") event(response, { usage: usageOf(generation) });
    const usage = streaming.continuous_usage_stats === true ? { usage: usageOf(generation) } : {};
    choices(
      {
        ...(chat ? { delta: deltaOf(body, show, first) } : { text: show }),
        ...(withIds ? { token_ids: ids } : {}),
        ...(chat && !withIds ? {} : first && !chat ? { prompt_token_ids: generation.prompt } : {}),
        ...(body.logprobs === true
          ? { logprobs: { content: ids.map((id) => ({ token: decode([id]), logprob: -1 })) } }
          : {}),
        finish_reason: finish,
        ...(finish === null ? {} : { stop_reason: stopped ? "a stop sequence" : null }),
      },
      usage,
    );
    first = false;
    if (stopped) break;
  }
  if (response.destroyed || response.writableEnded) return;
  if (mischief.tellsNoCount !== undefined) {
    response.end();
    return;
  }
  if (streaming.include_usage === true) {
    event(response, { choices: [], usage: usageOf(generation) });
  }
  server.ends(response, true);
}

function hasTools(body: Body): boolean {
  return Array.isArray(body.tools) && body.tools.length > 0 && body.tool_choice !== "none";
}

/** Tools: the text becomes a call's arguments. `think`: it becomes reasoning. */
function deltaOf(body: Body, text: string, first: boolean): Body {
  if (hasTools(body)) {
    const start = first ? { id: "call_1", type: "function", function: { name: "f", arguments: text } } : undefined;
    return { tool_calls: [{ index: 0, ...(start ?? { function: { arguments: text } }) }] };
  }
  if (body.think === true) return { reasoning_content: text };
  return text === "" ? {} : { content: text };
}

function usageOf({ prompt, ids }: Generation): Body {
  return {
    prompt_tokens: prompt.length,
    completion_tokens: ids.length,
    total_tokens: prompt.length + ids.length,
    prompt_tokens_details: { cached_tokens: 3 },
  };
}

async function once(
  server: ConformanceServer,
  body: Body,
  generation: Generation,
  response: ServerResponse,
): Promise<void> {
  for await (const _ids of server.generate(generation, response, false));
  const { ids, prompt } = generation;
  const ended = ids.at(-1) === END_ID;
  send(response, 200, {
    choices: [
      {
        index: 0,
        text: decode(ids),
        message: { role: "assistant", content: decode(ids) },
        finish_reason: ended ? "stop" : "length",
        ...(body.return_token_ids === true && !server.options.noIds ? { token_ids: ids } : {}),
        ...(body.return_prompt_token_ids === true && !server.options.noIds ? { prompt_token_ids: prompt } : {}),
      },
    ],
    usage: usageOf(generation),
  });
}
