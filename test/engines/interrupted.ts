/** Random calls on an engine, interrupted at random points, and why an answer differs when one does. */
import { setImmediate } from "node:timers/promises";
import type { Engine, EngineCall } from "@autellix/engines";
import { vocabulary } from "@autellix/engines/tiny-model";
import type { ChatCall } from "@autellix/protocol";
import { Random } from "@autellix/simulation";
import { z } from "zod";
import { chat, open } from "../../libs/engines/test/contract.ts";

const INTERRUPTIONS_MAX = 5;
/** Tokens from one interruption to the next: answers of the tiny model have 86 in the middle. */
const CUT_TOKENS_MAX = 15;
/** Of the first interruptions, how many come before the first token. */
const IN_PROMPT_SHARE = 0.4;
/** Steps that an interrupted call waits. */
const WAIT_STEPS_MAX = 3;
const STEPS_MAX = 100_000;
const PROMPT_WORDS_MAX = 60;

export interface RandomAnswer {
  question: ChatCall;
  text: string;
  ids: readonly number[];
  finish: string | undefined;
}

export interface Answers {
  answers: RandomAnswer[];
  interruptions: number;
  /** Interruptions before the call's first token. */
  inPrompt: number;
  /** Answers with a character that is none. */
  broken: string[];
}

/** Greedy calls with prompts of many lengths. */
export function randomCalls(count: number, seed: number): ChatCall[] {
  const random = Random.from(seed);
  return Array.from({ length: count }, (_, i) => {
    const words = Array.from({ length: random.int(0, PROMPT_WORDS_MAX) }, () => WORDS[random.int(0, WORDS.length - 1)]);
    return chat(`Question ${i}: ${words.join(" ")}?`);
  });
}
const WORDS = ["why", "does", "the", "cat", "sing", "or", "an", "été", "😀", "猫", "never", "42"];

interface Running {
  index: number;
  call: EngineCall;
  text: string;
  /** Interruptions to come. */
  cuts: number;
  /** Completion tokens at which the next one comes. 0: in its prompt. */
  cutAt: number;
  /** Steps to wait. */
  waits: number;
  finish: string | undefined;
}

/**
 * Runs the calls, as many together as the engine's batch holds.
 * @param seed of the interruptions, 1–5 for each call; 0: none.
 */
export async function interruptedAnswers(engine: Engine, calls: readonly ChatCall[], seed: number): Promise<Answers> {
  const random = Random.from(seed);
  const answers: RandomAnswer[] = [];
  const counts = { interruptions: 0, inPrompt: 0 };
  const waiting = calls.map((question, index) => ({ question, index }));
  const running: Running[] = [];
  for (let made = 0; waiting.length > 0 || running.length > 0; made++) {
    if (made > STEPS_MAX) throw new Error(`no end after ${STEPS_MAX} steps`);
    while (running.length < engine.info.batchCallsMax) {
      const next = waiting.shift();
      if (next === undefined) break;
      running.push({
        index: next.index,
        call: await open(engine, next.question),
        text: "",
        cuts: seed === 0 ? 0 : random.int(1, INTERRUPTIONS_MAX),
        cutAt: random.chance(IN_PROMPT_SHARE) ? 0 : random.int(1, CUT_TOKENS_MAX),
        waits: 0,
        finish: undefined,
      });
    }
    const batch = running.filter(({ waits }) => waits === 0);
    for (const one of running) one.waits = Math.max(0, one.waits - 1);
    // All of them wait.
    if (batch.length === 0) continue;
    const { calls: steps } = await engine.step(batch.map(({ call }) => call));
    for (const [i, step] of steps.entries()) {
      const one = batch[i];
      if (one === undefined) throw new Error("a result without a call");
      if (step.error !== undefined) throw step.error;
      one.text += step.text;
      one.finish = step.finish;
      if (step.finish !== undefined) {
        answers[one.index] = {
          question: calls[one.index] as ChatCall,
          text: one.text,
          ids: [...one.call.ids],
          finish: step.finish,
        };
        await engine.close(one.call);
        running.splice(running.indexOf(one), 1);
      } else if (one.cuts > 0 && one.call.completionTokens >= one.cutAt) {
        one.cuts--;
        one.cutAt = one.call.completionTokens + random.int(1, CUT_TOKENS_MAX);
        counts.interruptions++;
        if (one.call.completionTokens === 0) counts.inPrompt++;
        await engine.park(one.call);
        one.waits = random.int(1, WAIT_STEPS_MAX);
      }
    }
    await setImmediate();
  }
  return { answers, ...counts, broken: answers.map(({ text }) => text).filter((text) => text.includes("\ufffd")) };
}

export interface Difference {
  question: string;
  /** Of the first token that differs. */
  at: number;
  ids: [number | undefined, number | undefined];
  /** How far apart the server finds the two tokens there; undefined when it does not rank them first. */
  logprobGap: number | undefined;
  /** The two are as good as equal: numerics decide. */
  explained: boolean;
}

/** Of the first token behind these, the logprobs of the best candidates by id. */
type Rank = (messages: ChatCall["messages"], shared: readonly number[]) => Promise<ReadonlyMap<number, number>>;

/** For each answer that differs: how near together the server finds the two tokens where they part. */
export async function differences(
  whole: readonly RandomAnswer[],
  interrupted: readonly RandomAnswer[],
  { rank, tieLogprob }: { rank: Rank; tieLogprob: number },
): Promise<Difference[]> {
  const found: Difference[] = [];
  for (const [i, { question, text, ids }] of whole.entries()) {
    const other = interrupted[i];
    if (other === undefined) throw new Error(`call ${i} has no answer`);
    if (text === other.text && String(ids) === String(other.ids)) continue;
    let at = 0;
    while (ids[at] !== undefined && ids[at] === other.ids[at]) at++;
    const logprobs = await rank(question.messages, ids.slice(0, at));
    // An answer that is shorter has ended there.
    const [a, b] = [ids[at] ?? END_ID, other.ids[at] ?? END_ID].map((id) => logprobs.get(id));
    const logprobGap = a === undefined || b === undefined ? undefined : Math.abs(a - b);
    const explained = logprobGap !== undefined && logprobGap <= tieLogprob;
    found.push({
      question: question.messages[0]?.content ?? "",
      at,
      ids: [ids[at], other.ids[at]],
      logprobGap,
      explained,
    });
  }
  return found;
}

const CANDIDATES = 10;
const LETTER_ID = vocabulary().tokens.indexOf("u");
const END_ID = vocabulary().tokens.indexOf("</s>");
const tokensSchema = z.object({ tokens: z.array(z.number()) });
const vllmRankSchema = z.object({
  choices: z.tuple([z.object({ logprobs: z.object({ top_logprobs: z.tuple([z.record(z.string(), z.number())]) }) })]),
});
const llamaRankSchema = z.object({
  completion_probabilities: z.tuple([
    z.object({ top_logprobs: z.array(z.object({ id: z.number(), logprob: z.number() })) }),
  ]),
});

/** As vLLM at `url` ranks them. */
export function rankOfVllm(url: string): Rank {
  return async (messages, shared) => {
    const { tokens } = tokensSchema.parse(await post(`${url}/tokenize`, { model: "tiny", messages }));
    const body = { model: "tiny", prompt: [...tokens, ...shared], max_tokens: 1, logprobs: CANDIDATES };
    const answer = await post(`${url}/v1/completions`, { ...body, return_tokens_as_token_ids: true });
    const [top] = vllmRankSchema.parse(answer).choices[0].logprobs.top_logprobs;
    return new Map(Object.entries(top).map(([key, logprob]) => [Number(key.replace("token_id:", "")), logprob]));
  };
}

/** As llama-server at `url` ranks them. */
export function rankOfLlamaServer(url: string): Rank {
  return async (messages, shared) => {
    const { prompt } = z.object({ prompt: z.string() }).parse(await post(`${url}/apply-template`, { messages }));
    const text = { content: prompt, add_special: true, parse_special: true };
    const { tokens } = tokensSchema.parse(await post(`${url}/tokenize`, text));
    // It ranks none of the bytes of an open character, so it is made to give a letter; the ranks are those before that.
    const logit_bias = [[LETTER_ID, 1_000]];
    const body = { prompt: [...tokens, ...shared], n_predict: 1, n_probs: CANDIDATES, temperature: 0, logit_bias };
    const answer = llamaRankSchema.parse(await post(`${url}/completion`, body));
    return new Map(answer.completion_probabilities[0].top_logprobs.map(({ id, logprob }) => [id, logprob]));
  };
}

async function post(url: string, body: object): Promise<unknown> {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${await answer.text()}`);
  return answer.json();
}
