/** Which calls can be gone on with by token ids alone, and what of their request goes with them. */
import type { ChatCall } from "@autellix/protocol";

/** How a call can be gone on with once it has shown something. */
export type Continuation =
  /** As if it had never stopped. */
  | "exact"
  /** With a valid answer, but not the one that it would have given: only when its stream was lost. */
  | "inexact"
  /** Not at all: what the server makes of its tokens (tool calls, JSON, logprobs …) would be torn. */
  | "none";

/** Sampling parameters that mean the same in a chat and in a completion from token ids. */
const SAMPLING = new Set([
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "seed",
  "logit_bias",
  "frequency_penalty",
  "presence_penalty",
  "repetition_penalty",
  "stop_token_ids",
  "allowed_token_ids",
  "ignore_eos",
  "skip_special_tokens",
  "spaces_between_special_tokens",
  "cache_salt",
  "user",
  // llama-server
  "typical_p",
  "top_n_sigma",
  "repeat_penalty",
  "repeat_last_n",
  "dynatemp_range",
  "dynatemp_exponent",
  "xtc_probability",
  "xtc_threshold",
  "samplers",
  "min_keep",
  "cache_prompt",
  "lora",
]);
/** They shape the prompt alone, whose ids we have. */
const PROMPT = new Set([
  "messages",
  "add_generation_prompt",
  "continue_final_message",
  "add_special_tokens",
  "chat_template",
  "chat_template_kwargs",
]);
/** They say nothing of the answer, or we see to them ourselves. */
const OURS = new Set([
  "model",
  "stream",
  "stream_options",
  "max_tokens",
  "max_completion_tokens",
  "stop",
  "priority",
  "n",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "return_token_ids",
  "tool_choice",
  "parallel_tool_calls",
]);
/** Without effect at these values. */
const NEUTRAL = new Map<string, (value: unknown) => boolean>([
  ["logprobs", (value) => value === false],
  ["top_logprobs", (value) => value === 0],
  ["tools", (value) => Array.isArray(value) && value.length === 0],
  ["functions", (value) => Array.isArray(value) && value.length === 0],
  ["function_call", (value) => value === "none"],
  ["response_format", (value) => (value as { type?: unknown }).type === "text"],
  ["modalities", (value) => Array.isArray(value) && value.length === 1 && value[0] === "text"],
]);
/** They count over the tokens of one request's answer: a continuation counts from 0. */
const COUNTING = ["frequency_penalty", "presence_penalty"];

export function continuationOf(chat: ChatCall, body: Readonly<Record<string, unknown>>): Continuation {
  // Images and the like: their place in the prompt is no token.
  if (chat.foreign.some((path) => path.startsWith("messages"))) return "none";
  for (const [key, value] of Object.entries(body)) {
    if (value === null || value === undefined) continue;
    if (SAMPLING.has(key) || PROMPT.has(key) || OURS.has(key) || NEUTRAL.get(key)?.(value)) continue;
    return "none";
  }
  const drawn = chat.temperature > 0 && chat.seed !== undefined;
  const counts = COUNTING.some((key) => (body[key] ?? 0) !== 0);
  return drawn || counts ? "inexact" : "exact";
}

/** The sampling parameters of a request, for one that begins with token ids. */
export function samplingOf(body: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([key, value]) => SAMPLING.has(key) && value != null));
}

/** What a server's tokenizer needs to make the same prompt of a chat. */
export function promptOf(body: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(body).filter(([key, value]) => (PROMPT.has(key) || key === "tools") && value != null),
  );
}
