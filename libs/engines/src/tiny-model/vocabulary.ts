/**
 * The vocabulary of the tiny model: SentencePiece with byte fallback, 512 tokens. Pieces make English prompts short;
 * byte tokens can spell any text, one byte of a character at a time.
 */

/** `token_type` of GGUF's tokenizer metadata. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const BYTE = 6;

export const VOCABULARY_TOKENS = 512;
export const BOS_ID = 1;
/** Ends an answer. */
export const EOS_ID = 2;
const BYTE_ID_FIRST = 3;
const CONTROL_ID_FIRST = BYTE_ID_FIRST + 256;
const CONTROLS = ["<|system|>", "<|user|>", "<|assistant|>", "<|answer|>"];
/** Opens the answer that is to be generated; it occurs once in a prompt. */
export const ANSWER_ID = CONTROL_ID_FIRST + CONTROLS.indexOf("<|answer|>");
const PIECE_ID_FIRST = CONTROL_ID_FIRST + CONTROLS.length;

/** SentencePiece writes a space as U+2581. */
const SPACE = "\u2581";
const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const MARKS = `${SPACE}.,!?;:'"()-`;
const WIDE = "éüñßæжλ→€猫語😀🚀";
const PAIRS =
  "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne ea ra ce li ch ll be ma si om ur";
const WORD_STARTS = "t a w s i o c b f m p h d n l r e g u y v k j q T A W S I H"
  .split(" ")
  .map((letter) => SPACE + letter);
const WORDS =
  "the and ing ion ent you for ere her is in of to it on at be he as ar or an re st me we no so do go ha ch th wh co de mo se li ca fo".split(
    " ",
  );

/** Only ever generated: prompts are spelled by the shorter pieces. */
const LONG_WORDS =
  "time people way day man thing woman life child world school state family group country problem hand part place case week company system".split(
    " ",
  );

/**
 * The chat template, in Jinja. Only the last message, when it is the assistant's, opens an answer: a
 * history of many turns still holds one `<|answer|>`, on which the model counts (`weights.ts`).
 */
export const CHAT_TEMPLATE =
  "{{ bos_token }}{% for message in messages %}" +
  "{% if loop.last and message['role'] == 'assistant' %}<|answer|>{{ message['content'] }}" +
  "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}{% endif %}" +
  "{% endfor %}{% if add_generation_prompt %}<|answer|>{% endif %}";

export interface Vocabulary {
  tokens: string[];
  /** SentencePiece merges the pair with the highest score first. */
  scores: number[];
  types: number[];
}

export function vocabulary(): Vocabulary {
  const tokens = ["<unk>", "<s>", "</s>"];
  const types = [UNKNOWN, CONTROL, CONTROL];
  for (let byte = 0; byte < 256; byte++) {
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    types.push(BYTE);
  }
  for (const control of CONTROLS) {
    tokens.push(control);
    types.push(CONTROL);
  }
  const pieces = new Set([...LETTERS, ...MARKS, ...WIDE, ...PAIRS.split(" "), ...WORD_STARTS]);
  for (const word of WORDS) pieces.add(SPACE + word).add(word);
  for (const word of LONG_WORDS) pieces.add(SPACE + word);
  for (const piece of pieces) {
    tokens.push(piece);
    types.push(NORMAL);
  }
  if (tokens.length !== VOCABULARY_TOKENS) throw new Error(`the vocabulary has ${tokens.length} tokens`);
  // Longer pieces are merged first, so that words win over letters.
  const scores = tokens.map((token, id) => (id < PIECE_ID_FIRST ? 0 : [...token].length * 10 - id / VOCABULARY_TOKENS));
  return { tokens, scores, types };
}

export function byteOf(id: number): number | undefined {
  return id >= BYTE_ID_FIRST && id < CONTROL_ID_FIRST ? id - BYTE_ID_FIRST : undefined;
}

/** Tokens that an answer may hold outside a character of several bytes, other than EOS. */
export function isPiece(id: number): boolean {
  return id >= PIECE_ID_FIRST && id < VOCABULARY_TOKENS;
}
