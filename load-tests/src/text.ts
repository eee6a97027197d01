/**
 * Prompts made up to a length. Words are common ones, which tokenizers of English text keep whole.
 */
import { createRandom } from "./random.ts";

const WORDS =
  "time year people way day man thing woman life child world school state family student group country problem hand part place case week company system program question work government number night point home water room mother area money story fact month lot right study book eye word business issue side kind head house service friend father power hour game line end member law car city".split(
    " ",
  );

/** What a call's text starts with: an instruction that asks for a long answer, so that the limit of tokens ends it. */
const INSTRUCTION = "Write a long story with these words:";

/**
 * @param charsPerToken about 4 to 5 for tokenizers of English text, 1 for a vocabulary of bytes.
 * @returns text of about `promptTokens` tokens, the same for the same seed.
 */
export function makePrompt(promptTokens: number, seed: number, charsPerToken: number): string {
  const random = createRandom(seed);
  const charsMax = Math.round(promptTokens * charsPerToken);
  let text = INSTRUCTION;
  while (text.length < charsMax) text += ` ${WORDS[random.int(0, WORDS.length - 1)]}`;
  return text.slice(0, Math.max(1, charsMax));
}
