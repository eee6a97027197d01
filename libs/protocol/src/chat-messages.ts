/**
 * The messages of a call's body. Each is checked by itself, and each part of its content too: the first fault ends it,
 * however many a body has.
 */
import { z } from "zod";
import type { ChatMessage, ToolCall } from "./chat.ts";
import { validate } from "./codec.ts";
import { fieldName } from "./issues.ts";

export const MESSAGES_MAX = 10_000;
/** Parts of the content of one message. */
export const CONTENT_PARTS_MAX = 10_000;
/** Of one message. */
export const TOOL_CALLS_MAX = 1_000;
export const TOOL_NAME_CHARS_MAX = 256;

type Path = readonly (string | number)[];

/** Where fields are named that change the answer and that no `ChatCall` holds. */
export interface ForeignFields {
  add(path: Path): void;
}

const roleSchema = z.object({ role: z.enum(["system", "developer", "user", "assistant", "tool", "function"]) });
const content = z.union([z.string(), z.array(z.unknown()).min(1).max(CONTENT_PARTS_MAX)]);
const name = z.string().nullish();
const textSchema = z.object({ content, name });
const assistantSchema = z.object({
  content: content.nullish(),
  name,
  tool_calls: z.array(z.unknown()).max(TOOL_CALLS_MAX).nullish(),
});
const toolSchema = z.object({ content, tool_call_id: z.string().min(1) });
const functionSchema = z.object({ content: content.nullish(), name });

/** Its `type` alone says who checks the rest: we, or the server behind an engine. */
export const typedSchema = z.object({ type: z.string() });
const textPartSchema = z.object({ text: z.string() });
/** Some servers leave the type of a call out. */
const callTypeSchema = z.object({ type: z.string().nullish() });
const callSchema = z.object({
  id: z.string().min(1),
  function: z.object({ name: z.string().min(1).max(TOOL_NAME_CHARS_MAX), arguments: z.string() }),
});

/** Fields of any message that say more than its text; empty ones come with every answer that is sent back. */
const FOREIGN_FIELDS = ["function_call", "audio", "refusal"];

/** @throws AutellixError `invalid_request` naming the field at fault. */
export function readMessage(given: unknown, at: Path, foreign: ForeignFields): ChatMessage {
  const { role } = validate(roleSchema, given, at);
  const fields = given as Record<string, unknown>;
  for (const key of FOREIGN_FIELDS) if (!isEmpty(fields[key])) foreign.add([...at, key]);
  if (role !== "assistant" && !isEmpty(fields.tool_calls)) foreign.add([...at, "tool_calls"]);
  switch (role) {
    case "assistant": {
      const message = validate(assistantSchema, given, at);
      const text = textOf(message.content, at, foreign);
      const toolCalls = readToolCalls(message.tool_calls ?? [], [...at, "tool_calls"], foreign);
      return { role, content: text, ...(toolCalls.length > 0 ? { toolCalls } : {}) };
    }
    case "tool": {
      const message = validate(toolSchema, given, at);
      return { role, content: textOf(message.content, at, foreign), toolCallId: message.tool_call_id };
    }
    case "function":
      foreign.add([...at, "role"]);
      return { role: "tool", content: textOf(validate(functionSchema, given, at).content, at, foreign) };
    default:
      return {
        role: role === "developer" ? "system" : role,
        content: textOf(validate(textSchema, given, at).content, at, foreign),
      };
  }
}

function textOf(value: z.output<typeof content> | null | undefined, at: Path, foreign: ForeignFields): string {
  if (value == null) return "";
  if (typeof value === "string") return value;
  const texts = value.map((part, index) => {
    const path = [...at, "content", index];
    if (validate(typedSchema, part, path).type === "text") return validate(textPartSchema, part, path).text;
    foreign.add([...path, "type"]);
    return "";
  });
  return texts.join("");
}

function readToolCalls(list: readonly unknown[], at: Path, foreign: ForeignFields): ToolCall[] {
  return list.flatMap((given, index) => {
    const path = [...at, index];
    const type = validate(callTypeSchema, given, path).type ?? "function";
    if (type === "function") return [{ type, ...validate(callSchema, given, path) }];
    foreign.add([...path, "type"]);
    return [];
  });
}

/** As SDKs fill fields that an answer does not have. */
function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === "" || (Array.isArray(value) && value.length === 0);
}

/** The first so many fields, by their paths as texts. */
export class FieldNames implements ForeignFields {
  readonly names: string[] = [];
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  add(path: Path): void {
    if (this.names.length < this.#max) this.names.push(fieldName(path));
  }
}
