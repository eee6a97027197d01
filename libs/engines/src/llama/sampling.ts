/**
 * One forward pass, and the choice of the next token. The choice is made here and not in llama.cpp: it must be the same
 * with and without log probabilities and grammar, and depend on nothing that would be lost when a call moves.
 */
import type {
  ControlledEvaluateIndexOutput,
  ControlledEvaluateInputItem,
  LlamaContextSequence,
  Token,
} from "node-llama-cpp";
import { hash } from "../hash.ts";
import type { LlamaCall, Pass } from "./call.ts";
import type { GrammarState } from "./grammar.ts";
import { logprobOf, type TokenLogprob } from "./logprobs.ts";

type Generate = NonNullable<Exclude<ControlledEvaluateInputItem, Token>[1]["generateNext"]>;
type Ranked = (readonly [id: Token, logit: number])[];

/**
 * llama.cpp's own default. OpenAI's API has no such parameter, and without it the long tail of a small model's
 * vocabulary makes every few words nonsense.
 */
const TOP_K = 40;
/** Tokens that are looked at first for one that the grammar allows; then all. */
const GRAMMAR_TOP_K = 256;
/** Under a grammar, tokens with less than e^−10 of the weight of the best are not looked for. */
const GRAMMAR_LOG_WEIGHT_MIN = -10;
const UINT32 = 2 ** 32;

export interface Vocabulary {
  size: number;
  ends: readonly Token[];
  bytesOf: (id: number) => readonly number[];
}

export interface Sampled {
  id: number;
  logprob?: TokenLogprob;
}

/** @returns the new token of a pass that samples. */
export async function evaluate(
  sequence: LlamaContextSequence,
  call: LlamaCall,
  pass: Pass,
  vocabulary: Vocabulary,
): Promise<Sampled | undefined> {
  const ids = pass.ids as Token[];
  if (!pass.samples) {
    await sequence.evaluateWithoutGeneratingNewTokens(ids);
    return undefined;
  }
  const last = ids.at(-1);
  if (last === undefined) throw new Error("nothing to evaluate");
  const run = async (before: Token[], generateNext: Generate) => {
    const output = await sequence.controlledEvaluate([...before, [last, { generateNext }]]);
    const next = output.at(-1)?.next;
    if (next?.token === undefined || next.token === null) throw new Error("no token was sampled");
    return { ...next, token: next.token };
  };
  const { chat } = call;
  const { grammar } = call.answer;
  const penalties = penaltiesOf(call);
  if (chat.temperature === 0 && grammar === undefined && chat.logprobs === undefined) {
    const { token } = await run(ids.slice(0, -1), { token: true, options: { temperature: 0, ...penalties } });
    return { id: token };
  }
  const next = await run(ids.slice(0, -1), request(call, grammar, vocabulary, penalties));
  let ranked = rank(next);
  let id = choose(ranked, call, grammar);
  if (id === undefined) {
    // None of the likely tokens is allowed. The same pass again, with the logits of all.
    await sequence.eraseContextTokenRanges([{ start: sequence.nextTokenIndex - 1, end: sequence.nextTokenIndex }]);
    ranked = rank(await run([], topLogits(vocabulary.size, [], penalties)));
    id = choose(ranked, call, grammar);
  }
  if (id === undefined) throw new Error("the grammar allows no token of the vocabulary");
  if (chat.logprobs === undefined) return { id };
  const scores = { ranked, totalWeight: next.totalLogitWeight ?? 1 };
  return { id, logprob: logprobOf(id, scores, chat.logprobs, vocabulary.bytesOf) };
}

/** All at their raw values: `temperature: 0` leaves logits and vocabulary as they are, but sorts them all (3 ms). */
function topLogits(includeTop: number, tokens: readonly Token[], penalties: object): Generate {
  return {
    token: true,
    totalLogitWeight: true,
    logits: { filter: { tokens, includeTop } },
    options: { temperature: 0, ...penalties },
  };
}

function request(
  call: LlamaCall,
  grammar: GrammarState | undefined,
  vocabulary: Vocabulary,
  penalties: object,
): Generate {
  const top = Math.min(
    vocabulary.size,
    grammar === undefined ? Math.max(TOP_K, call.chat.logprobs ?? 0) : GRAMMAR_TOP_K,
  );
  // Where the answer may end, its end must be among the candidates however unlikely it is.
  const ends = grammar?.isComplete === true ? vocabulary.ends : [];
  if (call.chat.logprobs !== undefined || ends.length > 0) return topLogits(top, ends, penalties);
  return {
    token: true,
    logits: { filter: { tokens: [], includeTop: top } },
    // Only the best `top` are sorted; at temperature 1 they keep their logits. The token that llama.cpp draws is not used.
    options: { temperature: 1, topK: top, topP: 1, seed: 0, ...penalties },
  };
}

/** OpenAI's penalties on what was generated so far: a function of the ids alone. */
function penaltiesOf({ chat, ids }: LlamaCall): object {
  const { frequencyPenalty, presencePenalty } = chat;
  if (ids.length === 0 || (frequencyPenalty === 0 && presencePenalty === 0)) return {};
  const punishTokens = ids as readonly Token[] as Token[];
  return {
    repeatPenalty: { punishTokens, maxPunishTokens: ids.length, penalty: 1, frequencyPenalty, presencePenalty },
  };
}

function rank({ logits }: ControlledEvaluateIndexOutput["next"]): Ranked {
  return [...(logits ?? [])].sort(([a, x], [b, y]) => y - x || a - b);
}

/** @returns undefined when the grammar allows none of them. */
function choose(ranked: Ranked, call: LlamaCall, grammar: GrammarState | undefined): number | undefined {
  const { temperature, topP } = call.chat;
  const candidates = grammar === undefined ? ranked.slice(0, TOP_K) : allowed(ranked, grammar, temperature);
  return draw(candidates, temperature, topP, hash(call.seed, call.ids.length) / UINT32);
}

function allowed(ranked: Ranked, grammar: GrammarState, temperature: number): Ranked {
  const found: Ranked = [];
  for (const one of ranked) {
    const best = found[0]?.[1] ?? one[1];
    const tooUnlikely = one[1] - best < GRAMMAR_LOG_WEIGHT_MIN * Math.max(temperature, 1);
    if (found.length >= (temperature === 0 ? 1 : TOP_K) || tooUnlikely) break;
    if (grammar.allows(one[0])) found.push(one);
  }
  return found;
}

/**
 * In llama.cpp's order: first the smallest set of tokens that has the probability `topP`, then the temperature.
 * @param candidates the most likely first.
 * @param uniform from 0 to below 1.
 */
export function draw(
  candidates: readonly (readonly [id: number, logit: number])[],
  temperature: number,
  topP: number,
  uniform: number,
): number | undefined {
  const [best] = candidates;
  if (best === undefined || temperature === 0) return best?.[0];
  const weights = candidates.map(([, logit]) => Math.exp(logit - best[1]));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let kept = 0;
  for (let mass = 0; kept < candidates.length && mass < topP * total; kept++) mass += weights[kept] ?? 0;
  const cooled = candidates.slice(0, Math.max(1, kept)).map(([, logit]) => Math.exp((logit - best[1]) / temperature));
  let left = uniform * cooled.reduce((sum, weight) => sum + weight, 0);
  const index = cooled.findIndex((weight) => {
    left -= weight;
    return left < 0;
  });
  return candidates[index < 0 ? cooled.length - 1 : index]?.[0];
}
