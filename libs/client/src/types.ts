/**
 * The public data types. They repeat a few of `@autellix/protocol` on purpose: the packed package must not import
 * anything of this workspace. The compiler checks in `submit.ts` that both stay assignable.
 */

/** Calls of another type than `function` have what they call under its name: `custom` with `name` and `input`. */
export interface ToolCall {
  id: string;
  type: string;
  /** `arguments`: JSON text, as the model wrote it. */
  function?: { name: string; arguments: string };
  [field: string]: unknown;
}

/** A message of a request. An answer's message can be sent back as it came. */
export interface ChatMessage {
  role: "system" | "developer" | "user" | "assistant" | "tool";
  /** Parts that are not text (images, …) need an engine that hands requests on to a server. */
  content?: string | null | { type: string; [field: string]: unknown }[];
  tool_calls?: ToolCall[];
  /** Of a tool's message: what it answers. */
  tool_call_id?: string;
  [field: string]: unknown;
}

/** What an assistant says. Servers add fields of their own (`reasoning_content`). */
export interface AnswerMessage {
  role: "assistant";
  /** Null when it says nothing beside its tool calls. */
  content: string | null;
  refusal: string | null;
  tool_calls?: ToolCall[];
  [field: string]: unknown;
}

/** A piece of a message: texts grow by it, `tool_calls` name the call that they add to by its `index`. */
export interface Delta {
  role?: "assistant";
  content?: string | null;
  tool_calls?: {
    index: number;
    id?: string;
    type?: string;
    function?: { name?: string; arguments?: string };
    [field: string]: unknown;
  }[];
  [field: string]: unknown;
}

export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter" | "function_call";

/** An OpenAI Chat Completions request; fields that are not named here are passed on as they are. */
export interface CallBody {
  model?: string;
  messages: ChatMessage[];
  max_completion_tokens?: number;
  max_tokens?: number;
  temperature?: number;
  top_p?: number;
  seed?: number;
  stop?: string | string[];
  [field: string]: unknown;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Input that was not computed for this call, since a context or cache held it. */
  prompt_tokens_details?: { cached_tokens: number } | undefined;
}

/** What Autellix adds to an answer. Times in ms. */
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

/** One `chat.completion.chunk`. */
export interface Chunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: 0;
    delta: Delta;
    /** Of these tokens, when the call asked for them. */
    logprobs?: unknown;
    finish_reason: FinishReason | null;
  }[];
  usage?: Usage | null;
  autellix?: Extension;
}

/** A whole `chat.completion`. */
export interface Completion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: [{ index: 0; message: AnswerMessage; logprobs: unknown; finish_reason: FinishReason }];
  usage: Usage;
  autellix: Extension;
}

export type CallStatus = "completed" | "failed" | "cancelled" | "expired" | "dead";

/** How a call ended: its record in the stream of outcomes. */
export interface CallOutcome {
  callId: string;
  programId: string;
  status: CallStatus;
  /** The answer, when the call completed. */
  response?: Completion;
  /** Why it did not complete; `code` is one of the table in `libs/protocol/src/errors.ts`. */
  error?: { code: string; message: string };
  /** What was generated, also by a call that did not complete. */
  usage?: Usage;
  timings?: { waiting_ms: number; service_ms: number };
}
