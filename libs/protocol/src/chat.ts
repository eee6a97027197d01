/**
 * The part of OpenAI's Chat Completions that this version serves: what a body may hold, what an answer looks like.
 * Used by frontends (HTTP) and by agents (bodies that outside publishers put on the queue).
 */
import { z } from "zod";
import { validate } from "./codec.ts";
import { AutellixError } from "./errors.ts";

export const STOP_SEQUENCES_MAX = 4;
/** An agent holds text back that could begin a stop sequence, and compares with each token. */
export const STOP_SEQUENCE_CHARS_MAX = 1_000;
export const MESSAGES_MAX = 10_000;

const content = z.union([z.string(), z.array(z.object({ type: z.literal("text"), text: z.string() })).min(1)]);
const name = z.string().nullish();

const message = z.discriminatedUnion("role", [
  z.object({ role: z.literal("system"), content, name }),
  z.object({ role: z.literal("developer"), content, name }),
  z.object({ role: z.literal("user"), content, name }),
  z.object({ role: z.literal("assistant"), content: content.nullish(), name }),
]);

const stopSequence = z.string().max(STOP_SEQUENCE_CHARS_MAX);

const optional = <T extends z.ZodType>(schema: T) => schema.nullish();

const body = z.object({
  model: z.string().min(1).optional(),
  messages: z.array(message).min(1, "must have at least one message").max(MESSAGES_MAX),
  stream: optional(z.boolean()),
  stream_options: optional(z.object({ include_usage: optional(z.boolean()) })),
  n: optional(z.int()),
  max_tokens: optional(z.int().positive()),
  max_completion_tokens: optional(z.int().positive()),
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().gt(0).max(1)),
  seed: optional(z.int()),
  stop: optional(z.union([stopSequence, z.array(stopSequence).max(STOP_SEQUENCES_MAX)])),
  metadata: optional(z.record(z.string(), z.unknown())),
});

/** Parameters that change nothing of the answer's text: accepted with any value. */
const IGNORED = new Set([
  "user",
  "store",
  "metadata",
  "service_tier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "safety_identifier",
]);
const SERVED = new Set(Object.keys(body.shape));

/**
 * Neutral values of parameters that are not served: the answer is the same with and without them. A map, because a
 * plain object also has the keys `constructor` and `toString`.
 */
const NEUTRAL = new Map<string, (value: unknown) => boolean>([
  ["frequency_penalty", (v) => v === 0],
  ["presence_penalty", (v) => v === 0],
  ["logprobs", (v) => v === false],
  ["top_logprobs", (v) => v === 0],
  ["logit_bias", (v) => isObject(v) && Object.keys(v).length === 0],
  ["response_format", (v) => isObject(v) && v.type === "text"],
  ["tools", isEmptyList],
  ["tool_choice", (v) => v === "none" || v === "auto"],
  ["parallel_tool_calls", (v) => typeof v === "boolean"],
  ["functions", isEmptyList],
  ["function_call", (v) => v === "none" || v === "auto"],
  ["modalities", (v) => Array.isArray(v) && v.length === 1 && v[0] === "text"],
]);

/** Valid in OpenAI's API, but not served: refused as such, not as a wrong value. */
const ROLES_NOT_SERVED = new Set(["tool", "function"]);
const PARTS_NOT_SERVED = new Set(["image_url", "input_audio", "file", "refusal"]);
/** Fields of a message that say more than its text; empty ones come with every answer that is sent back. */
const MESSAGE_FIELDS_NOT_SERVED = ["tool_calls", "function_call", "audio", "refusal"];

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** A validated call: what an engine needs, with defaults filled in. */
export interface ChatCall {
  /** Undefined when the publisher named a pool only. */
  model: string | undefined;
  messages: ChatMessage[];
  stream: boolean;
  includeUsage: boolean;
  /** Undefined: up to what the context leaves. */
  completionTokensMax: number | undefined;
  /** OpenAI's default is 1. */
  temperature: number;
  topP: number;
  seed: number | undefined;
  stop: string[];
}

/**
 * @throws AutellixError `invalid_request` or `unsupported_parameter`, naming the field. A parameter at its neutral
 * value is accepted; one that would change the answer is refused, never ignored.
 */
export function parseChat(value: unknown): ChatCall {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new AutellixError("invalid_request", "the body must be an object");
  }
  refuseMessagesNotServed((value as { messages?: unknown }).messages);
  const parsed = validate(body, value);
  for (const [key, given] of Object.entries(value)) {
    if (SERVED.has(key) || IGNORED.has(key) || given === null || given === undefined) continue;
    const isNeutral = NEUTRAL.get(key);
    if (isNeutral?.(given)) continue;
    throw unsupported(key.slice(0, PARAM_CHARS_MAX), isNeutral ? "is not supported at this value" : "is not supported");
  }
  if (parsed.n != null && parsed.n !== 1) throw unsupported("n", "must be 1");
  return {
    model: parsed.model,
    messages: parsed.messages.map((m) => ({
      role: m.role === "developer" ? "system" : m.role,
      content: textOf(m.content),
    })),
    stream: parsed.stream ?? false,
    includeUsage: parsed.stream_options?.include_usage ?? false,
    completionTokensMax: parsed.max_completion_tokens ?? parsed.max_tokens ?? undefined,
    temperature: parsed.temperature ?? 1,
    topP: parsed.top_p ?? 1,
    seed: parsed.seed ?? undefined,
    stop: (typeof parsed.stop === "string" ? [parsed.stop] : (parsed.stop ?? [])).filter((s) => s !== ""),
  };
}

/** Names what a newcomer most likely tries, before the schema would only call it a wrong value. */
function refuseMessagesNotServed(messages: unknown): void {
  if (!Array.isArray(messages)) return;
  for (const [index, given] of messages.slice(0, MESSAGES_MAX).entries()) {
    if (!isObject(given)) continue;
    const field = `messages[${index}]`;
    if (typeof given.role === "string" && ROLES_NOT_SERVED.has(given.role)) {
      throw unsupported(`${field}.role`, `"${given.role}" is not supported; put a tool's result into a user message`);
    }
    for (const key of MESSAGE_FIELDS_NOT_SERVED) {
      const value = given[key];
      if (value != null && value !== "" && !isEmptyList(value))
        throw unsupported(`${field}.${key}`, "is not supported");
    }
    if (!Array.isArray(given.content)) continue;
    for (const [at, part] of given.content.entries()) {
      const type = isObject(part) ? part.type : undefined;
      if (typeof type === "string" && PARTS_NOT_SERVED.has(type)) {
        throw unsupported(`${field}.content[${at}].type`, `"${type}" is not supported; only text is`);
      }
    }
  }
}

const PARAM_CHARS_MAX = 100;

function unsupported(param: string, text: string): AutellixError {
  return new AutellixError("unsupported_parameter", `${param} ${text}`, { param });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

function textOf(value: z.infer<typeof content> | null | undefined): string {
  if (value == null) return "";
  return typeof value === "string" ? value : value.map((part) => part.text).join("");
}

/** Characters of UTF-8 per token, for an estimate before an engine has counted. */
const BYTES_PER_TOKEN = 4;

export function estimatePromptTokens(bodyBytes: number): number {
  return Math.max(1, Math.ceil(bodyBytes / BYTES_PER_TOKEN));
}

export type FinishReason = "stop" | "length";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** What Autellix adds to an answer; SDKs pass unknown fields through. */
export interface Extension {
  call_id: string;
  program_id: string;
  engine: string;
  attempts: number;
  /** Time from acceptance to the end during which the call was not in a batch. */
  waiting_ms: number;
  /** Sum of the durations of the steps whose batch it was in. */
  service_ms: number;
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  /** Unix seconds. */
  created: number;
  model: string;
  choices: [
    {
      index: 0;
      message: { role: "assistant"; content: string; refusal: null };
      logprobs: null;
      finish_reason: FinishReason;
    },
  ];
  usage: Usage;
  autellix: Extension;
}

export interface ChatChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: 0;
    delta: { role?: "assistant"; content?: string };
    logprobs: null;
    finish_reason: FinishReason | null;
  }[];
  usage?: Usage | null;
  autellix?: Extension;
  /** Set on the first chunk of an attempt that starts over in front of an inbox (S2): drop what came before. */
  restart?: true;
}

export function completionId(callId: string): string {
  return `chatcmpl-${callId}`;
}
