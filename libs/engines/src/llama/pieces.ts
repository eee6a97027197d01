/** The bytes of a token: text of one token alone cannot show half a character. */
import type { LlamaModel, Token } from "node-llama-cpp";

const SPACE_MARK = "\u2581";
const BYTE_TOKEN = /^<0x([0-9A-F]{2})>$/;

/** @returns the bytes of each token, as the model's vocabulary writes them. */
export function bytesOfTokens(model: LlamaModel): (id: number) => readonly number[] {
  const { tokens, model: kind } = model.fileInfo.metadata.tokenizer.ggml;
  const byteOf = kind === "gpt2" ? byteLetters() : undefined;
  return (id) => {
    const piece = tokens[id] ?? "";
    if (byteOf !== undefined) {
      const bytes = [...piece].map((letter) => byteOf.get(letter));
      // Added tokens are written as they are.
      if (bytes.every((byte) => byte !== undefined)) return bytes;
    }
    const [, hex] = BYTE_TOKEN.exec(piece) ?? [];
    if (hex !== undefined) return [Number.parseInt(hex, 16)];
    const text = kind === "llama" ? piece.replaceAll(SPACE_MARK, " ") : model.detokenize([id as Token], true);
    return [...Buffer.from(text)];
  };
}

/** GPT-2's letters for bytes: printable ones stand for themselves, the others for letters from 256 on. */
function byteLetters(): Map<string, number> {
  const letters = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    letters.set(String.fromCodePoint(isPrintable ? byte : next++), byte);
  }
  return letters;
}

/** Looks through a whole vocabulary, which takes a tenth of a second. @returns the ids of tokens that are one byte. */
export function idsByByte(
  vocabularyTokens: number,
  bytesOf: (id: number) => readonly number[],
): ReadonlyMap<number, number> {
  const ids = new Map<number, number>();
  for (let id = 0; id < vocabularyTokens; id++) {
    const [byte, ...more] = bytesOf(id);
    if (byte !== undefined && more.length === 0 && !ids.has(byte)) ids.set(byte, id);
  }
  return ids;
}

/** @returns ids of the text, one for each byte; undefined where the vocabulary has no token for one. */
export function idsOfBytes(text: string, ids: ReadonlyMap<number, number>): number[] | undefined {
  const found = [...Buffer.from(text)].map((byte) => ids.get(byte));
  return found.every((id) => id !== undefined) ? found : undefined;
}
