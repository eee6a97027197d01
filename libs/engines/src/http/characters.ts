/**
 * Where ids can be cut. A server that goes on from ids which end inside a character shows the rest of that character
 * wrongly (vLLM repeats text of the prompt, llama-server shows broken bytes), so the character is completed here, by ids
 * alone, before its stream is asked for.
 */
import { OPEN_TOKENS_MAX } from "./answer.ts";
import type { IdDialect, IdsRequest, Once } from "./dialect.ts";

/** Ids before a cut that its text may depend on: a space at a word's beginning, the bytes of one character. */
const CONTEXT_IDS = 8;
/** A character has at most 4 bytes, so at most 3 tokens more. */
const SHORT_TOKENS = 4;
const BROKEN = "\ufffd";

type Decode = (ids: readonly number[]) => Promise<string>;

/** @returns how many of the ids come before the character that they leave open; all of them when none is. */
export async function wholeIds(decode: Decode, ids: readonly number[]): Promise<number> {
  const last = Math.max(0, ids.length - OPEN_TOKENS_MAX);
  for (let count = ids.length; count > last; count--) {
    const tail = await decode(ids.slice(Math.max(0, count - CONTEXT_IDS), count));
    if (!tail.endsWith(BROKEN)) return count;
  }
  // Nothing but stray bytes: there is no character to wait for.
  return last === 0 ? 0 : ids.length;
}

/** Text of `ids[from …]` as it reads behind those before it. */
export async function textFrom(decode: Decode, ids: readonly number[], from: number): Promise<string> {
  const context = Math.max(0, from - CONTEXT_IDS);
  const before = await decode(ids.slice(context, from));
  const all = await decode(ids.slice(context));
  return all.startsWith(before) ? all.slice(before.length) : await decode(ids.slice(from));
}

/** Text of an answer's ids as it reads behind its prompt. */
export async function answerText(
  decode: Decode,
  promptIds: readonly number[] | undefined,
  ids: readonly number[],
): Promise<string> {
  if (ids.length === 0) return "";
  const tail = (promptIds ?? []).slice(-CONTEXT_IDS);
  return await textFrom(decode, [...tail, ...ids], tail.length);
}

/** What completes the open character. */
export interface Completed extends Once {
  /** Text that the ids before and these complete together. */
  text: string;
}

/**
 * Generates until the text ends with a whole character.
 * @param ids of the answer, of which the first `whole` are complete.
 */
export async function completeCharacter(
  dialect: IdDialect,
  request: Omit<IdsRequest, "tokensMax" | "promptIds" | "openIds">,
  parts: { promptIds: readonly number[]; ids: readonly number[]; whole: number; tokensMax: number },
  signal: AbortSignal,
): Promise<Completed> {
  const { promptIds, ids, whole, tokensMax } = parts;
  const decode = (some: readonly number[]) => dialect.decode(some, signal);
  const more: number[] = [];
  for (;;) {
    const left = tokensMax - more.length;
    const short = Math.min(SHORT_TOKENS, left);
    const got = await dialect.once(
      {
        ...request,
        promptIds: [...promptIds, ...ids.slice(0, whole)],
        openIds: [...ids.slice(whole), ...more],
        tokensMax: short,
      },
      signal,
    );
    // The end of so short an answer is its own, not the call's.
    const ended = got.finish !== undefined && (got.finish !== "length" || left <= short || got.ids.length < short);
    const fresh = ended && got.endToken ? got.ids.slice(0, -1) : got.ids;
    const known = ids.length + more.length;
    more.push(...fresh);
    for (let count = known + 1; count < known + fresh.length; count++) {
      const some = [...ids, ...more].slice(0, count);
      if ((await wholeIds(decode, some)) !== count) continue;
      const text = await textFrom(decode, some, whole);
      return { ids: more.slice(0, count - ids.length), finish: undefined, endToken: false, text };
    }
    const all = [...ids, ...more];
    const closed = Math.max(whole, await wholeIds(decode, all));
    if (ended || closed === all.length || more.length > OPEN_TOKENS_MAX) {
      // An answer that ends inside a character ends before it, as servers do it.
      const text = await textFrom(decode, ended ? all.slice(0, closed) : all, whole);
      return { ids: more, finish: ended ? got.finish : undefined, endToken: ended && got.endToken, text };
    }
  }
}
