/**
 * The programs of `demo:policies`: long ones that keep an engine busy beyond what it can hold, and short ones that
 * arrive while they run.
 */
import { createRandom } from "./random.ts";
import type { CallSpec, ProgramSpec } from "./workload.ts";

export interface DemoOptions {
  seed: number;
  /** `small`: SmolLM2-135M; `tiny`: the random model, some thirty times as fast, whose answers end when they will. */
  model: "small" | "tiny";
  /** Multiplies the calls of long programs. */
  scale: number;
}

/** Twice what llama.cpp decodes together here (4): the engine is full, and as many wait. */
const LONG_PROGRAMS = 8;
const SHORT_PROGRAMS = 12;
const SHORT_CALLS_MAX = 2;
const SHORT_TOKENS = 12;

/**
 * The first long ones are well under way when the short ones come, and there is work left after the last of them.
 * Times are in ms.
 */
const sizes = {
  small: { longCalls: 3, longTokens: 120, longGap: 200, shortFrom: 4_000, shortGap: 2_500 },
  tiny: { longCalls: 60, longTokens: 400, longGap: 20, shortFrom: 3_000, shortGap: 800 },
};

const TOPICS = ["the sea", "a city", "winter", "a long journey", "music", "an old house", "a garden", "the moon"];
const QUESTIONS = ["What is tea?", "What colour is the sky?", "What is a river?", "What is 2 + 2?", "What is bread?"];

export function demoWorkload({ seed, model, scale }: DemoOptions): ProgramSpec[] {
  const random = createRandom(seed);
  const { longCalls, longTokens, longGap, shortFrom, shortGap } = sizes[model];
  const pick = (words: readonly string[]) => words[random.int(0, words.length - 1)] ?? "";
  const chain = (length: number, completionTokens: number, prompt: () => string): CallSpec[] =>
    Array.from({ length }, (_, index) => ({
      promptTokens: 30,
      completionTokens,
      gapMs: 0,
      thread: "main",
      parents: index === 0 ? [] : [index - 1],
      prompt: prompt(),
    }));
  const long = Array.from({ length: LONG_PROGRAMS }, (_, index) => ({
    kind: "long",
    arrivalMs: index * longGap,
    calls: chain(Math.max(1, Math.round(longCalls * scale)), longTokens, () => {
      return `Write a long story about ${pick(TOPICS)} and ${pick(TOPICS)}.`;
    }),
  }));
  let atMs = shortFrom;
  const short = Array.from({ length: SHORT_PROGRAMS }, () => {
    atMs += random.exponential(shortGap);
    const calls = chain(random.int(1, SHORT_CALLS_MAX), SHORT_TOKENS, () => pick(QUESTIONS));
    return { kind: "short", arrivalMs: Math.round(atMs), calls };
  });
  return [...long, ...short].sort((a, b) => a.arrivalMs - b.arrivalMs);
}
