export { type AutellixFetchOptions, autellixFetch } from "./fetch.ts";
export { type Program, type ProgramOptions, program } from "./program.ts";
export { type ConnectOptions, connect, QueueConnection } from "./queue.ts";
export { type Submission, type SubmitEvent, type SubmitOptions, submit } from "./submit.ts";
export type {
  AnswerMessage,
  CallBody,
  CallOutcome,
  CallStatus,
  ChatMessage,
  Chunk,
  Completion,
  Delta,
  Extension,
  FinishReason,
  ToolCall,
  Usage,
} from "./types.ts";
