/**
 * The conformance server's model: the next token is a function of all ids before it. Its tokens are bytes, some words, and
 * one that ends inside a character, so that an answer can be cut at every place where a real one could.
 */
export const START_ID = 0;
export const END_ID = 1;
const BYTES_FROM = 16;
const WORDS = ["word ", " the", " call", " engine", " waits", "ing", "\n", " 42", " “", "”"];
const WORDS_FROM = BYTES_FROM + 256;
/** A space and the first two bytes of an emoji, as byte-pair vocabularies have it. */
const SPLIT_ID = WORDS_FROM + WORDS.length;
export const VOCABULARY = SPLIT_ID + 1;

const pieces: Uint8Array[] = [];
pieces[START_ID] = Buffer.from("<s>");
pieces[END_ID] = Buffer.from("</s>");
for (let byte = 0; byte < 256; byte++) pieces[BYTES_FROM + byte] = Uint8Array.of(byte);
WORDS.forEach((word, i) => {
  pieces[WORDS_FROM + i] = Buffer.from(word);
});
pieces[SPLIT_ID] = Uint8Array.of(0x20, 0xf0, 0x9f);

export function bytesOf(ids: readonly number[], special: boolean): Buffer {
  return Buffer.concat(ids.filter((id) => special || id > END_ID).map((id) => pieces[id] ?? new Uint8Array()));
}

/** @param special whether the start and the end are shown. */
export function decode(ids: readonly number[], special = false): string {
  return bytesOf(ids, special).toString();
}

/** The longest token that fits, again and again. */
export function encode(text: string): number[] {
  const bytes = Buffer.from(text);
  const ids: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    let id = BYTES_FROM + (bytes[at] ?? 0);
    for (let long = WORDS_FROM; long < VOCABULARY; long++) {
      const piece = pieces[long] ?? new Uint8Array();
      const longer = piece.length > (pieces[id]?.length ?? 0);
      if (longer && bytes.subarray(at, at + piece.length).equals(piece)) id = long;
    }
    ids.push(id);
    at += pieces[id]?.length ?? 1;
  }
  return ids;
}

export function render(messages: readonly { role: string; content: unknown }[]): string {
  const textOf = (content: unknown): string =>
    typeof content === "string"
      ? content
      : Array.isArray(content)
        ? content.map((part: { text?: string }) => part.text ?? "<image>").join("")
        : "";
  return `${messages.map(({ role, content }) => `[${role}]${textOf(content)}`).join("")}[assistant]`;
}

export interface Sampling {
  temperature: number;
  seed: number | undefined;
  allowed: readonly number[] | undefined;
  ignoreEnd: boolean;
}

/** @param index of the token in this request: what a seeded sampler's state depends on. */
export function nextId(ids: readonly number[], index: number, sampling: Sampling): number {
  if (sampling.allowed?.[0] !== undefined) return sampling.allowed[0];
  let state = hash(ids.slice(-24)) ^ Math.imul(ids.length, 0x9e3779b1);
  if (sampling.temperature > 0) state = mix(state ^ Math.imul(index + 1, 0x85ebca6b) ^ (sampling.seed ?? drawn()));
  const draw = mix(state);
  const open = openBytes(bytesOf(ids.slice(-4), true));
  if (open === "f09f") return BYTES_FROM + 0x98 + (draw % 4);
  if (open !== "") return BYTES_FROM + 0x80 + (draw % 0x3c);
  const choice = draw % 32;
  if (choice === 0 && !sampling.ignoreEnd) return END_ID;
  if (choice < 5) return SPLIT_ID;
  if (choice < 9) return BYTES_FROM + 0xc3 + (draw % 2);
  if (choice < 14) return BYTES_FROM + 0xe4 + ((draw >>> 8) % 4);
  if (choice < 22) return WORDS_FROM + ((draw >>> 8) % WORDS.length);
  return BYTES_FROM + 0x61 + ((draw >>> 8) % 26);
}

/** The bytes of a character that is not complete, in hex. */
function openBytes(bytes: Uint8Array): string {
  for (let length = 1; length <= Math.min(3, bytes.length); length++) {
    const first = bytes[bytes.length - length] ?? 0;
    if (first < 0x80) return "";
    if (first < 0xc0) continue;
    const needed = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    return needed > length ? Buffer.from(bytes.slice(bytes.length - length)).toString("hex") : "";
  }
  return "";
}

let draws = 0;
/** Unseeded sampling: another draw each time, the same in each run of the tests. */
function drawn(): number {
  draws = mix(draws + 0x6d2b79f5);
  return draws;
}

function hash(ids: readonly number[]): number {
  let state = 0x811c9dc5;
  for (const id of ids) state = Math.imul(state ^ id, 0x01000193);
  return state >>> 0;
}

function mix(value: number): number {
  let state = Math.imul(value ^ (value >>> 15), 0x2c1b3c6d);
  state = Math.imul(state ^ (state >>> 12), 0x297a2d39);
  return (state ^ (state >>> 15)) >>> 0;
}

/** Text by text, as servers' incremental detokenizers do it: nothing of a token that leaves a character open. */
export class Detokenizer {
  readonly #ids: number[];
  #read: number;

  /** @param prompt what the answer goes on from. Inside a character it is repeated as a whole: vLLM's trap. */
  constructor(prompt: readonly number[]) {
    const open = decode(prompt.slice(-8)).endsWith("\ufffd");
    this.#ids = [...prompt];
    this.#read = open ? 0 : prompt.length;
  }

  push(id: number): string {
    this.#ids.push(id);
    const text = decode(this.#ids.slice(this.#read));
    if (text.endsWith("\ufffd")) return "";
    this.#read = this.#ids.length;
    return text;
  }
}
