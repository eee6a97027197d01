/**
 * The pieces of a streamed answer as one message: what a client that does not stream gets, and what is stored. Servers
 * add fields of their own (`reasoning_content`), so all fields are merged alike, by their kind.
 */
import type { AnswerMessage, AnswerToolCall, ToolCall } from "./chat.ts";
import type { AnswerDelta } from "./messages.ts";
import { calledName, DEFAULT_TYPE, ToolCallPlaces, WHOLE_FIELDS } from "./tool-call-places.ts";

export interface MergedAnswer {
  message: AnswerMessage;
  /** As `choices[0].logprobs`; null when no piece had any. */
  logprobs: unknown;
}

type Fields = Record<string, unknown>;
const NONE: ReadonlySet<string> = new Set();

/** A piece that is text alone. */
export function textDelta(text: string): AnswerDelta {
  return { delta: { content: text } };
}

/**
 * Texts are joined, lists are joined, of other values the last one counts. Tool calls are joined by their `index`, each
 * in the same way, but `id`, `type` and `name` come whole.
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

  readonly #whole: ReadonlySet<string>;

  /** @param whole fields, also of fields, whose texts are not joined: the last one that is not empty counts. */
  constructor(whole: ReadonlySet<string> = NONE) {
    this.#whole = whole;
  }

  get size(): number {
    return this.#byName.size;
  }

  /** `null` says nothing: servers send it in each piece for what they have no word on. */
  add(name: string, value: unknown): void {
    if (value === null || value === undefined) return;
    const known = this.#byName.get(name);
    if (typeof value === "string") {
      if (value === "" && this.#whole.has(name)) return;
      if (known && "texts" in known && !this.#whole.has(name)) known.texts.push(value);
      else this.#byName.set(name, { texts: [value] });
    } else if (Array.isArray(value)) {
      const list = known && "list" in known ? known.list : [];
      for (const entry of value) list.push(entry);
      this.#byName.set(name, { list });
    } else if (isObject(value)) {
      const fields = known && "fields" in known ? known.fields : new Joined(this.#whole);
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
  readonly #byIndex = new Map<number, { id: string; fields: Joined }>();
  readonly #places = new ToolCallPlaces();

  add(value: unknown): void {
    if (!Array.isArray(value)) return;
    for (const [place, given] of value.entries()) {
      if (!isObject(given)) continue;
      const { index = place, id, ...fields } = given;
      if (typeof index !== "number") continue;
      const at = this.#places.of(index, id, calledName(fields));
      const call = this.#byIndex.get(at) ?? { id: "", fields: new Joined(WHOLE_FIELDS) };
      this.#byIndex.set(at, call);
      if (typeof id === "string" && id !== "") call.id = id;
      for (const [name, field] of Object.entries(fields)) call.fields.add(name, field);
    }
  }

  all(): AnswerToolCall[] {
    const inOrder = [...this.#byIndex].sort(([a], [b]) => a - b);
    return inOrder.map(([, { id, fields }]) => {
      const { type, function: called, ...others } = fields.values();
      const isFunction = type === undefined || type === "" || type === DEFAULT_TYPE;
      return {
        id,
        type: isFunction ? DEFAULT_TYPE : String(type),
        ...(isFunction || isObject(called) ? { function: functionOf(called) } : {}),
        ...others,
      };
    });
  }
}

/** Both fields are there, whatever a server left out. */
function functionOf(called: unknown): ToolCall["function"] {
  const { name, arguments: given, ...others } = isObject(called) ? called : {};
  return { name: textOf(name), arguments: textOf(given), ...others };
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isEmpty(value: unknown): boolean {
  return value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0);
}
