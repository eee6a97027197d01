/** The answers of the simulated engine: a vocabulary of words, and which of them an answer holds. */
import type { ChatCall } from "@autellix/protocol";
import { hash, hashText } from "../hash.ts";

const WORDS = (
  "the a of to in is that it for on with as was by at from this have or an be are not but which all were when we there " +
  "can more time if out so up about than them only some could these two may then do first any like now over such our " +
  "even most after also many before must through years where much your way well down should because long each just " +
  "Straße café naïve 東京 привет Ωμέγα 😀 smörgåsbord"
).split(" ");

/** Ends an answer. */
export const END_ID = 0;
const WORD_ID_FIRST = 1;
const LENGTH_MEAN_TOKENS = 100;

export function isId(id: number): boolean {
  return id >= END_ID && id < WORD_ID_FIRST + WORDS.length;
}

/** Words are joined by spaces; an answer does not begin with one. */
export function decodeWords(ids: readonly number[]): string {
  return ids.map((id) => WORDS[id - WORD_ID_FIRST] ?? "").join(" ");
}

const WORD_IDS = new Map(WORDS.map((word, index) => [word, WORD_ID_FIRST + index]));

/** @returns undefined when this is no text of `decodeWords`. */
export function idsOfWords(text: string): number[] | undefined {
  const ids: number[] = [];
  for (const word of text.split(" ")) {
    const id = WORD_IDS.get(word);
    if (id === undefined) return undefined;
    ids.push(id);
  }
  return ids;
}

/** What is drawn for a call: the same call gives the same answer, on any engine and after any move. */
export interface Draw {
  seed: number;
  /** Tokens of the answer, the ending one included; undefined when only `completionTokensMax` ends it. */
  lengthTokens: number | undefined;
}

/**
 * With `completionTokensMax` the answer is that long; else its length is drawn, 2 to 198 tokens. Greedy answers depend
 * on the prompt alone, sampled ones on the seed too; without a seed they are drawn like greedy ones.
 */
export function drawOf(chat: ChatCall): Draw {
  const prompt = hashText(chat.messages.map((message) => `${message.role}\n${message.content}\n`).join(""));
  const seed = chat.temperature > 0 && chat.seed !== undefined ? hash(prompt, chat.seed) : prompt;
  const spread = 2 * LENGTH_MEAN_TOKENS - 3;
  const drawn = 2 + (hash(seed, -1) % spread);
  return { seed, lengthTokens: chat.completionTokensMax === undefined ? drawn : undefined };
}

/** Id of the token at this index of the answer. */
export function idAt(draw: Draw, index: number): number {
  if (draw.lengthTokens !== undefined && index >= draw.lengthTokens - 1) return END_ID;
  return WORD_ID_FIRST + (hash(draw.seed, index) % WORDS.length);
}
