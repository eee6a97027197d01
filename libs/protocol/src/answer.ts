/**
 * The pieces of a streamed answer as one message: what a client that does not stream gets, and what is stored. Servers
 * add fields of their own (`reasoning_content`), so all fields are merged alike, by their kind.
 */
import type { AnswerMessage, ToolCall } from "./chat.ts";
import type { AnswerDelta } from "./messages.ts";
import { ToolCallPlaces } from "./tool-call-places.ts";

export interface MergedAnswer {
  message: AnswerMessage;
  /** As `choices[0].logprobs`; null when no piece had any. */
  logprobs: unknown;
}

type Fields = Record<string, unknown>;

/** A piece that is text alone. */
export function textDelta(text: string): AnswerDelta {
  return { delta: { content: text } };
}

/**
 * Texts are joined, lists are joined, of other values the last one counts. Tool calls are joined by their `index`:
 * `id`, `type` and `name` come once, `arguments` in pieces.
 *
 * `content` is null when the answer says something else (tool calls, a refusal, reasoning) and no text.
 */
export function mergeAnswer(pieces: Iterable<AnswerDelta>): MergedAnswer {
  const fields = new Joined();
  const logprobs = new Joined();
  const tools = new ToolCalls();
  for (const { delta, logprobs: given } of pieces) {
    for (const [name, value] of Object.entries(delta)) {
      if (name === "tool_calls") tools.add(value);
      else if (name !== "role") fields.add(name, value);
    }
    if (isObject(given)) for (const [name, value] of Object.entries(given)) logprobs.add(name, value);
  }
  const { content, refusal, ...others } = fields.values();
  const calls = tools.all();
  const saysMore = calls.length > 0 || [refusal, ...Object.values(others)].some((value) => !isEmpty(value));
  const text = typeof content === "string" ? content : "";
  return {
    message: {
      role: "assistant",
      content: text === "" && saysMore ? null : text,
      refusal: typeof refusal === "string" ? refusal : null,
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
      ...others,
    },
    logprobs: logprobs.size > 0 ? { content: null, refusal: null, ...logprobs.values() } : null,
  };
}

/** Values by name, each joined with what came under its name before. Pieces are kept: joining each time costs n². */
class Joined {
  readonly #byName = new Map<
    string,
    { texts: string[] } | { list: unknown[] } | { fields: Joined } | { last: unknown }
  >();

  get size(): number {
    return this.#byName.size;
  }

  /** `null` says nothing: servers send it in each piece for what they have no word on. */
  add(name: string, value: unknown): void {
    if (value === null || value === undefined) return;
    const known = this.#byName.get(name);
    if (typeof value === "string") {
      if (known && "texts" in known) known.texts.push(value);
      else this.#byName.set(name, { texts: [value] });
    } else if (Array.isArray(value)) {
      const list = known && "list" in known ? known.list : [];
      for (const entry of value) list.push(entry);
      this.#byName.set(name, { list });
    } else if (isObject(value)) {
      const fields = known && "fields" in known ? known.fields : new Joined();
      for (const [inner, given] of Object.entries(value)) fields.add(inner, given);
      this.#byName.set(name, { fields });
    } else this.#byName.set(name, { last: value });
  }

  values(): Fields {
    const all = [...this.#byName].map(([name, value]) => {
      if ("texts" in value) return [name, value.texts.join("")];
      if ("list" in value) return [name, value.list];
      return [name, "fields" in value ? value.fields.values() : value.last];
    });
    return Object.fromEntries(all);
  }
}

class ToolCalls {
  readonly #byIndex = new Map<number, { id: string; name: string; arguments: string[] }>();
  readonly #places = new ToolCallPlaces();

  add(value: unknown): void {
    if (!Array.isArray(value)) return;
    for (const [place, given] of value.entries()) {
      if (!isObject(given)) continue;
      const { index = place, id, function: called } = given;
      if (typeof index !== "number") continue;
      const at = this.#places.of(index, id, isObject(called) ? called.name : undefined);
      const call = this.#byIndex.get(at) ?? { id: "", name: "", arguments: [] };
      this.#byIndex.set(at, call);
      if (typeof id === "string" && id !== "") call.id = id;
      if (!isObject(called)) continue;
      if (typeof called.name === "string" && called.name !== "") call.name = called.name;
      if (typeof called.arguments === "string") call.arguments.push(called.arguments);
    }
  }

  all(): ToolCall[] {
    const inOrder = [...this.#byIndex].sort(([a], [b]) => a - b);
    return inOrder.map(([, { id, name, arguments: pieces }]) => ({
      id,
      type: "function",
      function: { name, arguments: pieces.join("") },
    }));
  }
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isEmpty(value: unknown): boolean {
  return value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0);
}
