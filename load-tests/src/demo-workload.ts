/**
 * The programs of `demo:policies`: long ones that keep an engine busy beyond what it can hold, and short ones that
 * arrive while they run.
 */
import { createRandom } from "./random.ts";
import type { CallSpec, ProgramSpec } from "./workload.ts";

export interface DemoOptions {
  seed: number;
  /** Multiplies the length of all answers: 1 is about a minute for SmolLM2-135M on two cores. */
  tokenScale: number;
}

/** Twice what llama.cpp decodes together here (4): the engine is full, and as many wait. */
const LONG_PROGRAMS = 8;
const LONG_CALLS = 3;
const LONG_TOKENS = 120;
const SHORT_PROGRAMS = 12;
const SHORT_CALLS_MAX = 2;
const SHORT_TOKENS = 12;
/** The first long ones are well under way, and there is work left after the last short one came. */
const SHORT_FROM_MS = 4_000;
const SHORT_GAP_MS = 2_500;
const LONG_GAP_MS = 200;

const TOPICS = ["the sea", "a city", "winter", "a long journey", "music", "an old house", "a garden", "the moon"];
const QUESTIONS = ["What is tea?", "What colour is the sky?", "What is a river?", "What is 2 + 2?", "What is bread?"];

export function demoWorkload({ seed, tokenScale }: DemoOptions): ProgramSpec[] {
  const random = createRandom(seed);
  const pick = (words: readonly string[]) => words[random.int(0, words.length - 1)] ?? "";
  const chain = (length: number, tokens: number, prompt: () => string): CallSpec[] =>
    Array.from({ length }, (_, index) => ({
      promptTokens: 30,
      completionTokens: Math.max(1, Math.round(tokens * tokenScale)),
      gapMs: 0,
      thread: "main",
      parents: index === 0 ? [] : [index - 1],
      prompt: prompt(),
    }));
  const long = Array.from({ length: LONG_PROGRAMS }, (_, index) => ({
    kind: "long",
    arrivalMs: index * LONG_GAP_MS,
    calls: chain(LONG_CALLS, LONG_TOKENS, () => `Write a long story about ${pick(TOPICS)} and ${pick(TOPICS)}.`),
  }));
  let atMs = SHORT_FROM_MS;
  const short = Array.from({ length: SHORT_PROGRAMS }, () => {
    atMs += random.exponential(SHORT_GAP_MS);
    const calls = chain(random.int(1, SHORT_CALLS_MAX), SHORT_TOKENS, () => pick(QUESTIONS));
    return { kind: "short", arrivalMs: Math.round(atMs), calls };
  });
  return [...long, ...short].sort((a, b) => a.arrivalMs - b.arrivalMs);
}
