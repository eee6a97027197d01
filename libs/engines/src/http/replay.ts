/**
 * A stream was lost, and what it brought cannot be gone on with by ids: a tool call half-way, reasoning, logprobs. Where
 * the same request gives the same answer (greedy, or with a seed), it is made again: what was shown must come again, is
 * not shown twice, and what follows it goes on.
 */
import type { AnswerDelta } from "@autellix/protocol";
import type { Fresh } from "./answer.ts";

/** Where a value stands in a delta; numbers are the `index` of a list's entry. */
type Path = readonly (string | number)[];

/** The deltas of an answer, put together as clients do it: texts of one place are joined. */
export class Message {
  readonly texts = new Map<string, string>();
  readonly logprobs: unknown[] = [];
  tokens = 0;
  readonly ids: number[] = [];

  add({ tokens, ids, text, deltas }: Fresh): void {
    this.tokens += tokens;
    this.ids.push(...ids);
    for (const { delta, logprobs } of deltas ?? [{ delta: text === "" ? {} : { content: text } }]) {
      this.#join(delta, []);
      const { content } = (logprobs ?? {}) as { content?: unknown };
      if (Array.isArray(content)) this.logprobs.push(...content);
    }
  }

  copy(): Message {
    const copy = new Message();
    for (const [key, text] of this.texts) copy.texts.set(key, text);
    copy.logprobs.push(...this.logprobs);
    copy.ids.push(...this.ids);
    copy.tokens = this.tokens;
    return copy;
  }

  #join(value: unknown, path: Path): void {
    if (typeof value === "string") {
      const key = JSON.stringify(path);
      this.texts.set(key, (this.texts.get(key) ?? "") + value);
    } else if (Array.isArray(value)) {
      for (const [at, entry] of value.entries()) {
        const { index, ...rest } = (entry ?? {}) as { index?: unknown };
        this.#join(rest, [...path, typeof index === "number" ? index : at]);
      }
    } else if (typeof value === "object" && value !== null) {
      for (const [key, inner] of Object.entries(value)) this.#join(inner, [...path, key]);
    }
  }
}

export class Replay {
  readonly #shown: Message;
  readonly #again = new Message();
  #isOver = false;
  /** Tokens to come that were counted when they were shown: a chunk without text of its own counts as one, too. */
  #countedTokens = 0;

  /** @param shown what the lost streams brought, as far as it was handed out. */
  constructor(shown: Message) {
    this.#shown = shown;
  }

  /**
   * @param last the answer has ended.
   * @returns what is new in it: nothing while it repeats what was shown. Undefined when it is another answer.
   */
  push(fresh: Fresh, last: boolean): Fresh | undefined {
    if (this.#isOver) return this.#uncounted(fresh);
    this.#again.add(fresh);
    const state = this.#compare();
    if (state === "other" || (state === "behind" && last)) return undefined;
    if (state === "behind") return { tokens: 0, ids: [], text: "", deltas: undefined };
    this.#isOver = true;
    this.#countedTokens = Math.max(0, this.#shown.tokens - this.#again.tokens);
    return this.#rest();
  }

  #uncounted(fresh: Fresh): Fresh {
    const counted = Math.min(this.#countedTokens, fresh.tokens);
    if (counted === 0) return fresh;
    this.#countedTokens -= counted;
    return { ...fresh, tokens: fresh.tokens - counted };
  }

  #compare(): "behind" | "there" | "other" {
    const [shown, again] = [this.#shown, this.#again];
    // Without ids a chunk counts as a token, however many the server put into it.
    const counted = shown.ids.length === shown.tokens;
    let behind = (counted && again.tokens < shown.tokens) || again.logprobs.length < shown.logprobs.length;
    if (shown.ids.some((id, i) => i < again.ids.length && again.ids[i] !== id)) return "other";
    for (const [key, text] of shown.texts) {
      const now = again.texts.get(key) ?? "";
      if (isName(key)) behind ||= now === "";
      else if (now.length < text.length) behind = true;
      if (!isName(key) && !now.startsWith(text.slice(0, now.length))) return "other";
    }
    return behind ? "behind" : "there";
  }

  #rest(): Fresh {
    const [shown, again] = [this.#shown, this.#again];
    const delta: Record<string, unknown> = {};
    for (const [key, text] of again.texts) {
      const known = shown.texts.get(key);
      const rest = isName(key) && known !== undefined ? "" : text.slice(known?.length ?? 0);
      if (rest !== "") place(delta, JSON.parse(key) as Path, rest);
    }
    const logprobs = again.logprobs.slice(shown.logprobs.length);
    const one: AnswerDelta = logprobs.length === 0 ? { delta } : { delta, logprobs: { content: logprobs } };
    return {
      tokens: Math.max(0, again.tokens - shown.tokens),
      ids: again.ids.slice(shown.tokens),
      text: typeof delta.content === "string" ? delta.content : "",
      deltas: logprobs.length === 0 && Object.keys(delta).every((key) => key === "content") ? undefined : [one],
    };
  }
}

/** A tool call's own name is drawn anew each time: the one that was shown stays. */
function isName(key: string): boolean {
  return key.endsWith(',"id"]');
}

/** Puts a text at its place in a delta. */
function place(delta: Record<string, unknown>, [first, second, ...rest]: Path, text: string): void {
  if (typeof first !== "string") throw new Error("a delta's field has no name");
  if (second === undefined) delta[first] = text;
  else if (typeof second === "string") {
    delta[first] ??= {};
    place(delta[first] as Record<string, unknown>, [second, ...rest], text);
  } else {
    delta[first] ??= [];
    const list = delta[first] as Record<string, unknown>[];
    let entry = list.find(({ index }) => index === second);
    if (entry === undefined) {
      entry = { index: second };
      list.push(entry);
    }
    place(entry, rest, text);
  }
}
