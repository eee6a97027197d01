/** OpenAI's messages → the library's chat history, where a tool's result stands in the turn that called it. */
import { AutellixError, type ChatMessage, type ToolCall } from "@autellix/protocol";
import type { ChatHistoryItem, ChatModelFunctionCall } from "node-llama-cpp";
import type { CallSyntax } from "./tools.ts";

type ModelTurn = Extract<ChatHistoryItem, { type: "model" }>;

/**
 * @param syntax throws where the model's chat format has none.
 * @returns ends with the turn that the model is to write, or to go on with.
 * @throws AutellixError `invalid_request` when calls and results do not belong together.
 */
export function historyOf(messages: readonly ChatMessage[], syntax: () => CallSyntax): ChatHistoryItem[] {
  const history: ChatHistoryItem[] = [];
  /** A turn that called tools, until somebody else speaks. */
  let open: ModelTurn | undefined;
  for (let i = 0; i < messages.length; i++) {
    const message = messages[i] as ChatMessage;
    if (message.role === "tool") throw invalid(i, "answers no tool call of the message before it");
    if (message.role !== "assistant") {
      history.push({ type: message.role, text: message.content });
      open = undefined;
      continue;
    }
    const calls = message.toolCalls ?? [];
    const results = resultsBehind(messages, i);
    const made = calls.map((call) => functionCall(call, results, syntax(), i));
    if (results.size > 0) throw invalid(i, "is followed by answers to tool calls that it did not make");
    const response = [...(message.content === "" && calls.length > 0 ? [] : [message.content]), ...made];
    const turn: ModelTurn = open ?? { type: "model", response: [] };
    if (open === undefined) history.push(turn);
    turn.response.push(...response);
    open = calls.length === 0 ? undefined : turn;
    while (messages[i + 1]?.role === "tool") i++;
  }
  if (open === undefined) history.push({ type: "model", response: [] });
  return history;
}

function resultsBehind(messages: readonly ChatMessage[], index: number): Map<string, string> {
  const results = new Map<string, string>();
  for (let i = index + 1; messages[i]?.role === "tool"; i++) {
    results.set(messages[i]?.toolCallId ?? "", messages[i]?.content ?? "");
  }
  return results;
}

/** Takes its result out of `results`. */
function functionCall(
  { id, function: { name, arguments: args } }: ToolCall,
  results: Map<string, string>,
  syntax: CallSyntax,
  index: number,
): ChatModelFunctionCall {
  const result = results.get(id);
  if (result === undefined) throw invalid(index, `calls a tool (${id}) that no message behind it answers`);
  results.delete(id);
  return {
    type: "functionCall",
    name,
    params: jsonOr(args),
    result: jsonOr(result),
    // As the model wrote it, so that its context can be gone on from.
    rawCall: syntax.shown(name, args).toJSON(),
  };
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function invalid(index: number, reason: string): AutellixError {
  const param = `messages[${index}]`;
  return new AutellixError("invalid_request", `${param} ${reason}`, { param });
}
