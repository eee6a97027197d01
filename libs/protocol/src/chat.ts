/**
 * OpenAI's Chat Completions as Autellix knows them: what an engine needs of a call, what an answer looks like. Bodies are
 * read in `chat-body.ts`.
 */

export interface ToolCall {
  id: string;
  type: "function";
  /** `arguments`: JSON text, as the model wrote it. */
  function: { name: string; arguments: string };
}

/** Roles as engines know them: `developer` is `system`. */
export interface ChatMessage {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  /** Of an assistant's message. */
  toolCalls?: ToolCall[];
  /** Of a tool's message: what it answers. */
  toolCallId?: string;
}

export interface ToolDefinition {
  name: string;
  description?: string;
  /** JSON schema of its arguments; none: no arguments. */
  parameters?: Record<string, unknown>;
}

export type ToolChoice = "none" | "auto" | "required" | { name: string };

export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | { type: "json_schema"; schema: Record<string, unknown> };

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
  frequencyPenalty: number;
  presencePenalty: number;
  tools: ToolDefinition[];
  /** `none` without tools. */
  toolChoice: ToolChoice;
  parallelToolCalls: boolean;
  responseFormat: ResponseFormat;
  /** Alternatives to list per token, 0 … 20; undefined: no logprobs at all. */
  logprobs: number | undefined;
  /**
   * Fields of the body (as paths, `messages[0].content[1].type`) that change the answer and are not in this object: only
   * an engine that gets the body itself can serve them. Others refuse the call, naming the first.
   */
  foreign: string[];
}

/** Characters of UTF-8 per token, for an estimate before an engine has counted. */
const BYTES_PER_TOKEN = 4;

export function estimatePromptTokens(bodyBytes: number): number {
  return Math.max(1, Math.ceil(bodyBytes / BYTES_PER_TOKEN));
}

/** `function_call`: of the deprecated `functions`, which only a server behind an engine serves. */
export const finishReasons = ["stop", "length", "tool_calls", "content_filter", "function_call"] as const;
export type FinishReason = (typeof finishReasons)[number];

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Input that was not computed for this call, since a context or cache held it. */
  prompt_tokens_details?: { cached_tokens: number } | undefined;
}

/** Calls of custom tools have `custom` with `name` and `input`; servers add fields of their own. */
export interface AnswerToolCall {
  id: string;
  type: string;
  function?: ToolCall["function"];
  [field: string]: unknown;
}

/** What an assistant says: the merged deltas of its stream. Servers add fields of their own (`reasoning_content`). */
export interface AnswerMessage {
  role: "assistant";
  content: string | null;
  refusal: string | null;
  tool_calls?: AnswerToolCall[];
  [field: string]: unknown;
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
      message: AnswerMessage;
      /** As the engine gave them, else null. */
      logprobs: unknown;
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
    delta: { role?: "assistant"; content?: string | null; [field: string]: unknown };
    logprobs: unknown;
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
