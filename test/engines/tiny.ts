/** Text of the tiny model's tokens, put together without any tokenizer. */
import { byteOf, isPiece, VOCABULARY_TOKENS, vocabulary } from "@autellix/engines/tiny-model";

/** Beyond the vocabulary. */
export const TINY_FOREIGN_ID = VOCABULARY_TOKENS;

const { tokens } = vocabulary();

/** Broken bytes become U+FFFD; special tokens are nothing. */
export function decodeTiny(ids: readonly number[]): string {
  return Buffer.concat(ids.map(bytesOf)).toString("utf8");
}

function bytesOf(id: number): Buffer {
  const byte = byteOf(id);
  if (byte !== undefined) return Buffer.from([byte]);
  // SentencePiece writes a space as U+2581.
  return Buffer.from(isPiece(id) ? (tokens[id] ?? "").replaceAll("\u2581", " ") : "");
}
