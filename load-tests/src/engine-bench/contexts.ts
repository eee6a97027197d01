/**
 * What a context that is kept is worth, through the port: moving it out and in against computing it again, and the time
 * to the first token of a conversation's next call with it, with it from the host tier, and without it.
 */
import type { Engine, EngineCall, OpenCall } from "@autellix/engines";
import { parseChat } from "@autellix/protocol";
import { makePrompt } from "../text.ts";

export interface ContextOptions {
  /** Of the history. */
  contextTokens: number;
  repeats: number;
  seed: number;
}

export interface ContextResult {
  /** Of the history, as the engine counts. */
  contextTokens: number;
  /** Bytes of one transfer. */
  swapBytes: number;
  /** Each repeat: ms. */
  swapOutMs: number[];
  swapInMs: number[];
  recomputeMs: number[];
  /** Tokens of the next call that were found in the context. */
  cachedTokens: number;
  /** To the first token of the next call: ms, tokenizing included. */
  coldMs: number[];
  warmMs: number[];
  /** Its context lay in the host tier; the transfer is part of it. */
  hostMs: number[];
}

const ANSWER_TOKENS = 8;
const CHARS_PER_TOKEN = 4.5;
/** Of one length, and different from their first word on. */
const QUESTIONS = {
  warm: "Which of these words is the longest?",
  host: "What of these words is the shortest?",
  cold: "Where in this text is the strangest word?",
};

interface Message {
  role: "user" | "assistant";
  content: string;
}

export async function measureContexts(engine: Engine, options: ContextOptions): Promise<ContextResult> {
  const history = await historyOf(engine, options);
  const result: ContextResult = {
    contextTokens: history.tokens,
    swapBytes: 0,
    swapOutMs: [],
    swapInMs: [],
    recomputeMs: [],
    cachedTokens: 0,
    coldMs: [],
    warmMs: [],
    hostMs: [],
  };
  const [first] = history.messages;
  if (first === undefined) throw new Error("there is no history");
  const next = (question: string): Message[] => [...history.messages, { role: "user", content: question }];
  for (let repeat = 0; repeat < options.repeats; repeat++) {
    const call = await engine.open(openCall([first]));
    result.recomputeMs.push(await untilFirstToken(engine, call));
    await untilEnd(engine, call);
    await swaps(engine, call, result);
    await retained(engine, call);
    const warm = await nextCall(engine, next(QUESTIONS.warm), call);
    result.warmMs.push(warm.ms);
    result.cachedTokens = warm.call.cachedTokens;
    // What it has beyond the history is dropped when the next one goes on from it.
    await retained(engine, warm.call);
    await swapped(engine.swapOut(warm.call));
    const host = await nextCall(engine, next(QUESTIONS.host), warm.call);
    result.hostMs.push(host.ms);
    await engine.close(host.call);
    const cold = await nextCall(engine, next(QUESTIONS.cold));
    result.coldMs.push(cold.ms);
    await engine.close(cold.call);
  }
  return result;
}

async function retained(engine: Engine, call: EngineCall): Promise<void> {
  if (!(await engine.retain(call))) throw new Error("the engine does not retain contexts");
}

/** The first call's prompt and answer: what its program's next call begins with. */
async function historyOf(engine: Engine, options: ContextOptions): Promise<{ messages: Message[]; tokens: number }> {
  const tokensOf = async (chars: number) => {
    const content = makePrompt(chars, options.seed, 1);
    const call = await engine.open(openCall([{ role: "user", content }]));
    const { promptTokens } = call;
    return { content, call, promptTokens };
  };
  const probe = await tokensOf(options.contextTokens);
  await engine.close(probe.call);
  const charsPerToken = probe.promptTokens === 0 ? CHARS_PER_TOKEN : options.contextTokens / probe.promptTokens;
  const { content, call } = await tokensOf(Math.floor(options.contextTokens * charsPerToken));
  const text = await untilEnd(engine, call);
  const tokens = call.contextTokens;
  await engine.close(call);
  return {
    messages: [
      { role: "user", content },
      { role: "assistant", content: text },
    ],
    tokens,
  };
}

async function swaps(engine: Engine, call: EngineCall, result: ContextResult): Promise<void> {
  const out = await swapped(engine.swapOut(call));
  const back = await swapped(engine.swapIn(call));
  result.swapBytes = out.bytes;
  result.swapOutMs.push(out.durationMs);
  result.swapInMs.push(back.durationMs);
}

async function swapped<T>(swap: Promise<T | undefined>): Promise<T> {
  const done = await swap;
  if (done === undefined) throw new Error("the host tier took no context of this size");
  return done;
}

function openCall(messages: readonly Message[]): OpenCall {
  const body = { messages, max_tokens: ANSWER_TOKENS, temperature: 0 };
  return { key: "bench/contexts", chat: parseChat(body), body, forcedIds: [] };
}

async function untilEnd(engine: Engine, call: EngineCall): Promise<string> {
  for (let text = ""; ; ) {
    const [step] = (await engine.step([call])).calls;
    if (step?.error !== undefined) throw step.error;
    text += step?.text ?? "";
    if (step?.finish !== undefined) return text;
  }
}

async function untilFirstToken(engine: Engine, call: EngineCall): Promise<number> {
  const startMs = performance.now();
  while (call.completionTokens === 0) {
    const [step] = (await engine.step([call])).calls;
    if (step?.error !== undefined) throw step.error;
  }
  return performance.now() - startMs;
}

/** The next call of a conversation, up to its first token. */
async function nextCall(
  engine: Engine,
  messages: readonly Message[],
  continues?: EngineCall,
): Promise<{ call: EngineCall; ms: number }> {
  const startMs = performance.now();
  const call = await engine.open({ ...openCall(messages), ...(continues === undefined ? {} : { continues }) });
  if (call.hostTokens > 0) await swapped(engine.swapIn(call));
  await untilFirstToken(engine, call);
  return { call, ms: performance.now() - startMs };
}
