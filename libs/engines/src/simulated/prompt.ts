/** Prompts of the simulated engine: how many tokens they have, and ids for them, so that contexts can be compared. */
import { type ChatCall, type ChatMessage, estimatePromptTokens } from "@autellix/protocol";
import { hash, hashText } from "../hash.ts";
import { idsOfWords } from "./words.ts";

/** What a chat template adds behind each message: its end, and who speaks next. */
const TEMPLATE_TOKENS = 4;
/** Sets prompt ids apart from those of answers, which are small. */
const PROMPT_ID_BIT = 0x40000000;
const PROMPT_ID_MAX = 0x3fffffff;
/** As `estimatePromptTokens` counts. */
const BYTES_PER_ID = 4;

export function promptTokensOf(chat: ChatCall): number {
  return chat.messages.reduce((sum, message) => sum + textTokensOf(message) + TEMPLATE_TOKENS, 0);
}

/**
 * Ids of the prompt, `promptTokensOf` many. An answer that comes back in a later conversation has the ids with which it
 * was generated, so that the conversation begins with the whole context of the call before.
 */
export function promptIds(chat: ChatCall): number[] {
  return chat.messages.flatMap((message, index) => {
    const next = chat.messages[index + 1]?.role ?? "assistant";
    const template = Array.from({ length: TEMPLATE_TOKENS }, (_, i) => promptId(hashText(next), i));
    return [...textIds(message), ...template];
  });
}

function textTokensOf(message: ChatMessage): number {
  return answerIds(message)?.length ?? estimatePromptTokens(Buffer.byteLength(textOf(message)));
}

function textIds(message: ChatMessage): number[] {
  const answer = answerIds(message);
  if (answer !== undefined) return answer;
  const bytes = Buffer.from(textOf(message));
  const role = hashText(message.role);
  return Array.from({ length: estimatePromptTokens(bytes.length) }, (_, i) =>
    promptId(role, ...bytes.subarray(i * BYTES_PER_ID, (i + 1) * BYTES_PER_ID)),
  );
}

/** @returns undefined for a message that this engine did not write. */
function answerIds(message: ChatMessage): number[] | undefined {
  return message.role === "assistant" && message.toolCalls === undefined ? idsOfWords(message.content) : undefined;
}

/** All that a model would read of a message. */
function textOf({ content, toolCalls, toolCallId }: ChatMessage): string {
  const calls = toolCalls === undefined ? "" : JSON.stringify(toolCalls);
  return `${toolCallId ?? ""}${calls}${content}`;
}

function promptId(...values: number[]): number {
  return PROMPT_ID_BIT | (hash(...values) & PROMPT_ID_MAX);
}
