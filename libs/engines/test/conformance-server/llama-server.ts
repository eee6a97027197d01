/** llama.cpp's server, with what was seen of it: ids that streams leave out, and no way to go on inside a character. */
import type { ServerResponse } from "node:http";
import { type ConformanceServer, event, type Generation, send } from "./index.ts";
import { bytesOf, Detokenizer, decode, END_ID, encode, render, START_ID, VOCABULARY } from "./model.ts";

type Body = Record<string, unknown>;

/** @returns false for an unknown path. */
export async function answerLlama(
  server: ConformanceServer,
  path: string,
  body: Body,
  response: ServerResponse,
): Promise<boolean> {
  const { slots, contextTokensMax, models } = server.options;
  const reply = (value: unknown) => {
    send(response, 200, value);
    return true;
  };
  switch (path) {
    case "/v1/models":
      return reply({
        object: "list",
        data: models.map((id) => ({ id, owned_by: "llamacpp", meta: { n_ctx: contextTokensMax } })),
      });
    case "/props":
      return reply({
        total_slots: slots,
        default_generation_settings: { n_ctx: contextTokensMax },
        chat_template: "{% for message in messages %}{{ message.content }}{% endfor %}",
        ...server.options.extra,
      });
    case "/slots":
      return reply(
        Array.from({ length: slots }, (_, id) => ({ id, is_processing: id < server.running + server.foreign })),
      );
    case "/apply-template":
      return reply({ prompt: render(body.messages as { role: string; content: unknown }[]) });
    case "/tokenize": {
      const ids = [...(body.add_special === true ? [START_ID] : []), ...encode(String(body.content))];
      return reply({ tokens: body.with_pieces === true ? ids.map((id) => ({ id, piece: pieceOf(id) })) : ids });
    }
    case "/detokenize": {
      const ids = body.tokens as number[];
      if (ids.every((id) => id < VOCABULARY)) return reply({ content: decode(ids, true) });
      send(response, 500, { error: { code: 500, message: "vector::_M_range_check", type: "server_error" } });
      return true;
    }
    case "/completion":
      await complete(server, body, response);
      return true;
    case "/v1/chat/completions":
      await chat(server, body, response);
      return true;
  }
  return false;
}

function pieceOf(id: number): string | number[] {
  const bytes = bytesOf([id], true);
  return bytes.toString().includes("\ufffd") ? [...bytes] : bytes.toString();
}

function generationOf(server: ConformanceServer, body: Body, prompt: readonly number[]): Generation {
  const bias = (body.logit_bias as [number, number][] | undefined)?.map(([id]) => id);
  const asked = (body.n_predict ?? body.max_completion_tokens ?? body.max_tokens ?? -1) as number;
  const room = server.options.contextTokensMax - prompt.length;
  return {
    prompt,
    ids: [],
    tokensMax: asked < 0 ? room : Math.min(asked, room),
    sampling: {
      temperature: (body.temperature ?? 0.8) as number,
      seed: body.seed as number | undefined,
      allowed: bias,
      ignoreEnd: body.ignore_eos === true,
    },
  };
}

async function complete(server: ConformanceServer, body: Body, response: ServerResponse): Promise<void> {
  if (!server.begins("/completion", body, response)) return;
  const prompt = body.prompt as number[];
  if (prompt.length >= server.options.contextTokensMax) {
    const error = {
      code: 400,
      message: "the request exceeds the available context size",
      type: "exceed_context_size_error",
    };
    return send(response, 400, { error });
  }
  const broken = () => {
    const message = "The model produced output that does not match the expected Content-only format";
    send(response, 500, { error: { code: 500, message, type: "server_error" } });
  };
  if (decode(prompt.slice(-8)).endsWith("\ufffd")) return broken();
  const generation = generationOf(server, body, prompt);
  const last = () => ({
    stop: true,
    stop_type: generation.ids.at(-1) === END_ID ? "eos" : "limit",
    tokens_predicted: generation.ids.length,
    tokens_evaluated: prompt.length,
    timings: { cache_n: 3 },
  });
  if (body.stream !== true) {
    for await (const _ids of server.generate(generation, response, false));
    if (/^\ufffd+$/.test(decode(generation.ids))) return broken();
    return send(response, 200, { content: decode(generation.ids), tokens: generation.ids, ...last() });
  }
  server.opens(response);
  const detokenizer = new Detokenizer(prompt);
  for await (const ids of server.generate(generation, response, true)) {
    for (const [i, id] of ids.entries()) {
      const text = id === END_ID ? "" : detokenizer.push(id);
      if (text === "" && id !== END_ID) continue;
      const count = generation.ids.length - (ids.length - 1 - i);
      event(response, { index: 0, content: text, tokens: [id], stop: false, id_slot: -1, tokens_predicted: count });
    }
  }
  if (response.destroyed || response.writableEnded) return;
  event(response, { index: 0, content: "", tokens: [], ...last() });
  server.ends(response, false);
}

async function chat(server: ConformanceServer, body: Body, response: ServerResponse): Promise<void> {
  if (!server.begins("/v1/chat/completions", body, response)) return;
  const prompt = [START_ID, ...encode(render(body.messages as { role: string; content: unknown }[]))];
  const generation = generationOf(server, body, prompt);
  const detokenizer = new Detokenizer(prompt);
  server.opens(response);
  event(response, { choices: [{ index: 0, delta: { role: "assistant", content: null }, finish_reason: null }] });
  for await (const ids of server.generate(generation, response, true)) {
    const text = ids.map((id) => (id === END_ID ? "" : detokenizer.push(id))).join("");
    if (text !== "") event(response, { choices: [{ index: 0, delta: { content: text }, finish_reason: null }] });
  }
  if (response.destroyed || response.writableEnded) return;
  const finish = generation.ids.at(-1) === END_ID ? "stop" : "length";
  event(response, { choices: [{ index: 0, delta: {}, finish_reason: finish }] });
  const usage = { prompt_tokens: prompt.length, completion_tokens: generation.ids.length };
  event(response, { choices: [], usage: { ...usage, prompt_tokens_details: { cached_tokens: 3 } } });
  server.ends(response, true);
}
