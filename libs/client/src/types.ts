/**
 * The public data types. They repeat a few of `@autellix/protocol` on purpose: the packed package must not import
 * anything of this workspace. The compiler checks in `submit.ts` that both stay assignable.
 */

export interface ChatMessage {
  role: "system" | "developer" | "user" | "assistant";
  content: string;
}

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
    delta: { role?: "assistant"; content?: string };
    finish_reason: "stop" | "length" | null;
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
  choices: [
    { index: 0; message: { role: "assistant"; content: string; refusal: null }; finish_reason: "stop" | "length" },
  ];
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
