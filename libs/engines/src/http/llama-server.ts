/**
 * llama.cpp's server. Its chat gives no token ids, so a plain call begins with those of its prompt, at `/completion`.
 * Streams there leave out the ids of tokens that end inside a character: they are found again by the character's bytes.
 */
import type { Piece } from "./answer.ts";
import type { HttpClient } from "./client.ts";
import { promptOf, samplingOf } from "./continuable.ts";
import {
  type Dialect,
  type IdDialect,
  type IdsRequest,
  type Once,
  readChatChunk,
  type ServerFacts,
  streamed,
} from "./dialect.ts";
import { count, failureOf, idList, number, record, refuseErrors, ServerFailure, text } from "./failure.ts";
import { metricSum } from "./metrics.ts";
import { healthyAt, options } from "./vllm.ts";

export interface LlamaServerParts {
  client: HttpClient;
  facts: ServerFacts;
  /** Its chat takes reasoning out of the text, which a completion would show. */
  reasons: boolean;
  unknownFinish: (reason: string) => void;
}

/** Texts whose ids are remembered: a language has some thousand characters that are cut. */
const TEXTS_MAX = 10_000;

export function llamaServer(parts: LlamaServerParts): Dialect {
  const { client, facts, unknownFinish } = parts;
  const { model } = facts;
  const idsBody = (request: IdsRequest) => ({
    ...samplingOf(request.body),
    prompt: request.promptIds,
    n_predict: request.tokensMax,
    return_tokens: true,
    ...(request.forcedId === undefined ? {} : { logit_bias: [[request.forcedId, 1e6]], temperature: 0 }),
  });
  const finder = new IdFinder(client);
  const byIds: IdDialect = {
    beginsWithIds: !parts.reasons,
    async promptIds(body, _free, signal) {
      const template = await client.json("POST", "/apply-template", promptOf(body), options(signal));
      if (template.status !== 200) {
        const failure = failureOf(template);
        if (failure.kind === "busy") throw failure;
        // What the template does not take, the chat may: it decides.
        return undefined;
      }
      const asked = { content: text(record(template.json).prompt), add_special: true, parse_special: true };
      return idList(record(await client.expectJson("POST", "/tokenize", asked, options(signal))).tokens);
    },
    async decode(ids, signal) {
      if (ids.length === 0) return "";
      return text(record(await client.expectJson("POST", "/detokenize", { tokens: ids }, options(signal))).content);
    },
    streamFrom: (request) => ({
      path: "/completion",
      body: { ...idsBody(request), stream: true },
      read: readCompletion,
    }),
    once: (request, signal) => onceBehind(client, idsBody(request), request, signal),
    repair: (piece, streamTokens, signal) => finder.repair(piece, streamTokens, signal),
  };
  return {
    facts,
    byIds,
    chat: (body, _priority, stop) => ({
      path: "/v1/chat/completions",
      body: streamed(body, model, stop),
      read: (event, resuming) => readChatChunk(event, resuming, unknownFinish),
    }),
    healthy: () => healthyAt(client, "/health"),
    async load() {
      const slots = await client.json("GET", "/slots");
      if (slots.status === 200 && Array.isArray(slots.json)) {
        return slots.json.filter((slot) => record(slot).is_processing === true).length;
      }
      return await metricSum(client, ["llamacpp:requests_processing", "llamacpp:requests_deferred"]);
    },
    async slotsNow() {
      const props = record((await client.json("GET", "/props")).json);
      const queued = await metricSum(client, ["llamacpp:requests_deferred"]);
      return { slots: number(props.total_slots), queued };
    },
  };
}

/** Times that an open character is drawn anew when sampling. */
const DRAWS_MAX = 16;
/** Of one character, at most. */
const CHARACTER_TOKENS = 4;

/**
 * This server fails when what it generates begins inside a character, so it generates the open ids again: greedily they
 * come out the same; sampled, they are drawn until they do.
 */
async function onceBehind(
  client: HttpClient,
  body: Record<string, unknown>,
  { openIds = [], tokensMax }: IdsRequest,
  signal: AbortSignal | undefined,
): Promise<Once> {
  // It fails, too, when all that it generates is a part of a character.
  const asked = { ...body, n_predict: openIds.length + Math.max(tokensMax, CHARACTER_TOKENS) };
  for (let draws = 0; draws < DRAWS_MAX; draws++) {
    const answer = record(
      await client.expectJson("POST", "/completion", asked, { ...options(signal), generates: true }),
    );
    const all = idList(answer.tokens);
    if (all === undefined) throw new ServerFailure("broken", "an answer without token ids");
    if (!openIds.every((id, i) => all[i] === id)) continue;
    const ids = all.slice(openIds.length, openIds.length + tokensMax);
    const ended = answer.stop_type === "eos" && openIds.length + ids.length === all.length;
    return { ids, finish: ended ? "stop" : "length", endToken: ended };
  }
  throw new ServerFailure("refused", "an open character that does not come out again", {
    sentence: "The engine's server cannot go on inside a character.",
  });
}

/** One event of `/completion`. */
function readCompletion(event: unknown, resuming: boolean): Piece {
  const chunk = refuseErrors(event, resuming);
  const tokensTotal = count(chunk.tokens_predicted);
  const piece: Piece = {
    text: text(chunk.content),
    ids: idList(chunk.tokens) ?? [],
    ...(tokensTotal === undefined ? {} : { tokensTotal }),
  };
  if (chunk.stop !== true) return piece;
  const cached = count(record(chunk.timings).cache_n);
  return {
    ...piece,
    finish: chunk.stop_type === "limit" ? "length" : "stop",
    endToken: chunk.stop_type === "eos",
    usage: {
      promptTokens: count(chunk.tokens_evaluated) ?? 0,
      completionTokens: tokensTotal ?? 0,
      cachedTokens: cached,
    },
  };
}

interface Token {
  id: number;
  bytes: Uint8Array;
}

class IdFinder {
  readonly #client: HttpClient;
  readonly #texts = new Map<string, Token[]>();

  constructor(client: HttpClient) {
    this.#client = client;
  }

  /**
   * The server counts tokens whose ids it does not give: those held back for a character that the last one completed.
   * Its tokenizer gives them again, of the same bytes. Without ids when it makes another number of them, or another last.
   */
  async repair(piece: Piece, streamTokens: number, signal: AbortSignal): Promise<Piece> {
    const ids = piece.ids ?? [];
    const missing = (piece.tokensTotal ?? 0) - streamTokens - ids.length;
    if (missing <= 0) return piece;
    // The answer ends inside a character: of its last tokens nothing is ever said, as of the end token.
    if (piece.finish !== undefined) return piece;
    const tokens = await this.#tokensOf(piece.text, signal);
    const all = tokens.map(({ id }) => id);
    const same = all.length === missing + ids.length && ids.every((id, i) => id === all[missing + i]);
    return { ...piece, ids: same ? all : undefined };
  }

  async #tokensOf(text: string, signal: AbortSignal): Promise<Token[]> {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    const body = { content: text, add_special: false, parse_special: false, with_pieces: true };
    const answer = record(await this.#client.expectJson("POST", "/tokenize", body, { signal }));
    const tokens = (Array.isArray(answer.tokens) ? answer.tokens : []).map(tokenOf);
    // Vocabularies of SentencePiece's kind put a space before every text.
    const space = tokens[0] !== undefined && !text.startsWith(" ") && Buffer.from(tokens[0].bytes).toString() === " ";
    const own = space ? tokens.slice(1) : tokens;
    if (this.#texts.size >= TEXTS_MAX) this.#texts.clear();
    this.#texts.set(text, own);
    return own;
  }
}

function tokenOf(value: unknown): Token {
  const { id, piece } = record(value);
  const bytes = typeof piece === "string" ? Buffer.from(piece) : Uint8Array.from(idList(piece) ?? []);
  return { id: number(id) ?? -1, bytes };
}
