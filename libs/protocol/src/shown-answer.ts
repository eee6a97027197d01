/**
 * What a reader of a stream has been shown of an answer, and what is left of it once the whole answer is known (S2). Of
 * texts it keeps a length and a hash, so that open streams cost little, however long their answers are. It reads deltas
 * as `mergeAnswer` does, which makes the whole answer of them.
 */
import type { AnswerMessage, AnswerToolCall } from "./chat.ts";
import type { AnswerDelta } from "./messages.ts";
import { calledName, DEFAULT_TYPE, ToolCallPlaces, WHOLE_FIELDS } from "./tool-call-places.ts";

/** Characters of JSON in one delta of a rest; a longer rest comes in several. */
export const REST_PIECE_CHARS_MAX = 16 * 1024;

type Fields = Record<string, unknown>;
type ShownFields = Map<string, Shown>;
type Shown =
  | { kind: "text"; length: number; hash: number }
  | { kind: "list"; count: number; hash: number }
  | { kind: "fields"; fields: ShownFields }
  /** Of others the last one counts. */
  | { kind: "value"; hash: number };

interface ShownCall {
  id: string;
  fields: ShownFields;
}

const NOTHING = Symbol("nothing");
const NONE: ReadonlySet<string> = new Set();
/** Where a tool call's text is, by what it calls. */
const LONG_FIELDS = [
  ["function", "arguments"],
  ["custom", "input"],
] as const;
/** The whole does not begin with what was shown. Thrown inside this file only. */
class Differs extends Error {}

export class ShownAnswer {
  readonly #content = { kind: "text" as const, length: 0, hash: FNV_OFFSET };
  readonly #message: ShownFields = new Map([["content", this.#content]]);
  readonly #calls = new Map<number, ShownCall>();
  readonly #places = new ToolCallPlaces();
  readonly #logprobs: ShownFields = new Map();

  addText(text: string): void {
    this.#content.length += text.length;
    this.#content.hash = hash(text, this.#content.hash);
  }

  add({ delta, logprobs }: AnswerDelta): void {
    const { role: _role, content, tool_calls: calls, ...others } = delta;
    if (typeof content === "string") this.addText(content);
    if (Array.isArray(calls)) for (const [place, call] of calls.entries()) this.#addCall(call, place);
    addFields(this.#message, others);
    if (isFields(logprobs)) addFields(this.#logprobs, logprobs);
  }

  /**
   * @param logprobs those of the choice.
   * @returns what to show beyond what was shown; empty when that is all. Undefined when the answer does not begin with
   * what was shown.
   */
  restOf(message: AnswerMessage, logprobs: unknown): AnswerDelta[] | undefined {
    const { role: _role, tool_calls: wholeCalls, ...fields } = message;
    try {
      const delta = restOfFields(fields, this.#message);
      const calls = this.#restOfCalls(wholeCalls ?? []);
      const others = restOfFields(isFields(logprobs) ? logprobs : {}, this.#logprobs);
      return inPieces(calls.length > 0 ? { ...delta, tool_calls: calls } : delta, others);
    } catch (error) {
      if (error instanceof Differs) return undefined;
      throw error;
    }
  }

  #addCall(given: unknown, place: number): void {
    if (!isFields(given)) return;
    const { index = place, id, ...fields } = given;
    if (typeof index !== "number") return;
    const at = this.#places.of(index, id, calledName(fields));
    const call = this.#calls.get(at) ?? { id: "", fields: new Map() };
    this.#calls.set(at, call);
    if (typeof id === "string" && id !== "") call.id = id;
    addFields(call.fields, fields, WHOLE_FIELDS);
  }

  /** By id: a call of a lower index may have come later. @throws Differs */
  #restOfCalls(whole: readonly AnswerToolCall[]): Fields[] {
    const indexes = new Map<string, number>();
    for (const [index, { id }] of this.#calls) if (id !== "") indexes.set(id, index);
    const matched = new Set<number>();
    let free = 1 + Math.max(-1, ...this.#calls.keys());
    /** Of the call before, so that they stay in their order where indexes were left out. */
    let before = -1;
    const rest = whole.flatMap(({ id, ...fields }) => {
      const next = before + 1;
      const isTaken = (this.#calls.get(next)?.id ?? "") !== "" || matched.has(next);
      while (matched.has(free)) free++;
      const index = indexes.get(id) ?? (isTaken ? free : next);
      before = index;
      const shown = this.#calls.get(index);
      matched.add(index);
      if (!shown) return [{ index, id, ...fields }];
      if (shown.id !== "" && shown.id !== id) throw new Differs();
      const { type, ...others } = restOfFields(fields, shown.fields);
      const entry = {
        ...(shown.id === id ? {} : { id }),
        // A server that never said it has not said this.
        ...(type === undefined || type === DEFAULT_TYPE ? {} : { type }),
        ...others,
      };
      return Object.keys(entry).length > 0 ? [{ index, ...entry }] : [];
    });
    for (const index of this.#calls.keys()) if (!matched.has(index)) throw new Differs();
    return rest;
  }
}

/** @param whole fields whose texts come whole; see `WHOLE_FIELDS`. */
function addFields(shown: ShownFields, fields: Fields, whole: ReadonlySet<string> = NONE): void {
  for (const [key, value] of Object.entries(fields)) {
    if (value === null || value === undefined) continue;
    const isWhole = typeof value === "string" && whole.has(key);
    if (!isWhole) shown.set(key, withAdded(shown.get(key), value, whole));
    else if (value !== "") shown.set(key, { kind: "value", hash: hashOf(value) });
  }
}

/** What was of another kind before is void, as when answers are merged. */
function withAdded(before: Shown | undefined, value: unknown, whole: ReadonlySet<string>): Shown {
  if (typeof value === "string") {
    const { length, hash: from } = before?.kind === "text" ? before : { length: 0, hash: FNV_OFFSET };
    return { kind: "text", length: length + value.length, hash: hash(value, from) };
  }
  if (Array.isArray(value)) {
    const { count, hash: from } = before?.kind === "list" ? before : { count: 0, hash: FNV_OFFSET };
    return { kind: "list", count: count + value.length, hash: hashOfList(value, from) };
  }
  if (isFields(value)) {
    const fields = before?.kind === "fields" ? before.fields : new Map<string, Shown>();
    addFields(fields, value, whole);
    return { kind: "fields", fields };
  }
  return { kind: "value", hash: hashOf(value) };
}

/** @throws Differs */
function restOfFields(whole: Fields, shown: ShownFields): Fields {
  const rest: [string, unknown][] = [];
  for (const [key, value] of Object.entries(whole)) {
    if (value === null || value === undefined) continue;
    const left = restOfValue(value, shown.get(key));
    if (left !== NOTHING) rest.push([key, left]);
  }
  for (const [key, before] of shown) {
    if ((whole[key] === null || whole[key] === undefined) && !isEmpty(before)) throw new Differs();
  }
  return Object.fromEntries(rest);
}

/** @returns NOTHING when all of it was shown, or it is empty. @throws Differs */
function restOfValue(value: unknown, shown: Shown | undefined): unknown {
  if (typeof value === "string" && shown?.kind === "value") {
    if (shown.hash !== hashOf(value)) throw new Differs();
    return NOTHING;
  }
  if (typeof value === "string" || Array.isArray(value)) {
    const count = countShown(value, shown);
    return value.length === count ? NOTHING : value.slice(count);
  }
  if (isFields(value)) {
    if (shown && shown.kind !== "fields") throw new Differs();
    const rest = restOfFields(value, shown?.fields ?? new Map());
    return Object.keys(rest).length === 0 ? NOTHING : rest;
  }
  return shown?.kind === "value" && shown.hash === hashOf(value) ? NOTHING : value;
}

/** Characters of a text or entries of a list. @throws Differs */
function countShown(whole: string | readonly unknown[], shown: Shown | undefined): number {
  if (!shown) return 0;
  const isText = typeof whole === "string";
  if (shown.kind !== (isText ? "text" : "list")) throw new Differs();
  const count = shown.kind === "text" ? shown.length : shown.kind === "list" ? shown.count : 0;
  const begin = isText ? hash(whole.slice(0, count), FNV_OFFSET) : hashOfList(whole.slice(0, count), FNV_OFFSET);
  if (whole.length < count || begin !== shown.hash) throw new Differs();
  return count;
}

/** One delta, or as many as a long rest needs. */
function inPieces(delta: Fields, logprobs: Fields): AnswerDelta[] {
  const [hasDelta, hasLogprobs] = [delta, logprobs].map((fields) => Object.keys(fields).length > 0);
  if (!hasDelta && !hasLogprobs) return [];
  if (JSON.stringify([delta, logprobs]).length <= REST_PIECE_CHARS_MAX) {
    return [hasLogprobs ? { delta, logprobs } : { delta }];
  }
  const pieces: AnswerDelta[] = [];
  for (const [key, value] of Object.entries(delta)) {
    for (const piece of piecesOf(value)) pieces.push({ delta: { [key]: piece } });
  }
  for (const [key, value] of Object.entries(logprobs)) {
    for (const piece of piecesOf(value)) pieces.push({ delta: {}, logprobs: { [key]: piece } });
  }
  return pieces;
}

/** Values that together say the same: parts of a text, the entries of a list one by one. */
function piecesOf(value: unknown): unknown[] {
  if (typeof value === "string") return partsOf(value);
  if (!Array.isArray(value)) return [value];
  return value.flatMap((entry) => piecesOfEntry(entry).map((piece) => [piece]));
}

/** Of a tool call, its arguments or its input in parts. */
function piecesOfEntry(entry: unknown): unknown[] {
  if (!isFields(entry)) return [entry];
  for (const [kind, field] of LONG_FIELDS) {
    const called = entry[kind];
    const text = isFields(called) ? called[field] : undefined;
    if (!isFields(called) || typeof text !== "string") continue;
    const [first = "", ...others] = partsOf(text);
    const { index } = entry;
    return [
      { ...entry, [kind]: { ...called, [field]: first } },
      ...others.map((part) => ({ index, [kind]: { [field]: part } })),
    ];
  }
  return [entry];
}

/** Never cuts a character of two units. */
function partsOf(text: string): string[] {
  const parts: string[] = [];
  for (let from = 0; from < text.length; ) {
    let to = from + REST_PIECE_CHARS_MAX;
    if (to < text.length && isHighSurrogate(text.charCodeAt(to - 1))) to--;
    parts.push(text.slice(from, to));
    from = to;
  }
  return parts;
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

function isEmpty(shown: Shown): boolean {
  switch (shown.kind) {
    case "text":
      return shown.length === 0;
    case "list":
      return shown.count === 0;
    case "fields":
      return [...shown.fields.values()].every(isEmpty);
    case "value":
      return false;
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/** FNV-1a over UTF-16 units: enough to notice a broken invariant. */
function hash(text: string, from: number): number {
  let value = from;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), FNV_PRIME);
  return value;
}

function hashOf(value: unknown): number {
  return hash(JSON.stringify(value) ?? "", FNV_OFFSET);
}

function hashOfList(list: readonly unknown[], from: number): number {
  return list.reduce<number>((value, entry) => hash(JSON.stringify(entry) ?? "", value), from);
}
