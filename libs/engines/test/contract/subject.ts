/** What the contract suite runs on, and the few moves that every test of an engine makes. */
import type { AnswerDelta, ChatCall, FinishReason } from "@autellix/protocol";
import { it, type TestContext } from "vitest";
import type { Engine, EngineCall, OpenCall, StepCall } from "../../src/port.ts";

/**
 * The engine under test: batches of 4, 8 resident calls, contexts of 512 tokens, slices of 16; with a host tier, one of
 * 64 blocks (1,024 tokens), so that tests can fill it.
 */
export interface Subject {
  engine: Engine;
  /** Text of all these ids at once, by means other than the engine's own stream. Not called without `traits.ids`. */
  decode(ids: readonly number[]): string;
  /** Beyond the vocabulary. */
  foreignId: number;
  /** A call with a short greedy answer; default: searched among prompts. */
  short?: ChatCall;
  /** A second engine of this host and model, which finds what the first one leaves. The test shuts it down. With `traits.leaves`. */
  another?(): Promise<Engine>;
}
export const SUBJECT = {
  batchCallsMax: 4,
  residentCallsMax: 8,
  contextTokensMax: 512,
  sliceTokens: 16,
  hostBlocks: 64,
  blockTokens: 16,
} as const;

/** What an adapter can do; tests of what it cannot are left out. Checked against `engine.info` where that says it. */
export interface Traits {
  /** It has token ids, so that a later attempt can be forced to repeat an earlier one. */
  ids: boolean;
  /** A step brings each call of its batch exactly one token, or one of them a slice of its prompt. */
  exactBatch: boolean;
  /** It says itself how many tokens a context holds; else contexts are the server's own business. */
  contexts: boolean;
  /** `info.hostBlocks` > 0. */
  hostTier: boolean;
  /** What it leaves in its host tier another engine of the host takes over. */
  leaves: boolean;
  /** `info.retains`. */
  retains: boolean;
  /** `info.forwards`: the request's body goes on to a server. */
  forwards: boolean;
  /** Greedy answers are the same whatever is beside them in the batch, and after a recomputation. */
  exactText: boolean;
}
export const TRAITS: Traits = {
  ids: true,
  exactBatch: true,
  contexts: true,
  hostTier: false,
  leaves: false,
  retains: false,
  forwards: false,
  exactText: true,
};

/** A test of what not every adapter can: left out where it cannot, since a skipped test says that something is missing. */
export function itIf(can: boolean): (name: string, test: (context: TestContext) => Promise<void>) => void {
  return can ? it : () => {};
}

export interface Answer {
  text: string;
  /** What each token of this attempt added to the text. */
  texts: string[];
  ids: number[];
  tokens: number;
  deltas: AnswerDelta[];
  finish: FinishReason | undefined;
}

/** What the tests of one engine share; filled before the first of them. */
export interface Rig {
  subject: Subject;
  engine: Engine;
  /** A prompt whose greedy answer is short, ends by itself and, where the engine has ids, has wide characters. */
  short: ChatCall;
  whole: Answer;
}

/** Steps after which a test gives up: contexts end long before. */
const STEPS_MAX = 5_000;

export function chat(content: string, fields: Partial<ChatCall> = {}): ChatCall {
  return {
    model: undefined,
    messages: [{ role: "user", content }],
    stream: true,
    includeUsage: true,
    completionTokensMax: undefined,
    temperature: 0,
    topP: 1,
    seed: undefined,
    stop: [],
    frequencyPenalty: 0,
    presencePenalty: 0,
    tools: [],
    toolChoice: "none",
    parallelToolCalls: true,
    responseFormat: { type: "text" },
    logprobs: undefined,
    foreign: [],
    ...fields,
  };
}

/** The request that `parseChat` would have made this call of. */
export function bodyOf(call: ChatCall): Record<string, unknown> {
  return {
    ...(call.model === undefined ? {} : { model: call.model }),
    messages: call.messages.map(({ role, content, toolCalls, toolCallId }) => ({
      role,
      content,
      ...(toolCalls === undefined ? {} : { tool_calls: toolCalls }),
      ...(toolCallId === undefined ? {} : { tool_call_id: toolCallId }),
    })),
    stream: call.stream,
    temperature: call.temperature,
    top_p: call.topP,
    ...(call.completionTokensMax === undefined ? {} : { max_completion_tokens: call.completionTokensMax }),
    ...(call.seed === undefined ? {} : { seed: call.seed }),
    ...(call.stop.length === 0 ? {} : { stop: call.stop }),
    ...(call.logprobs === undefined ? {} : { logprobs: true, top_logprobs: call.logprobs }),
  };
}

let opened = 0;
export function open(
  engine: Engine,
  call: ChatCall,
  forcedIds: readonly number[] = [],
  more: Partial<Pick<OpenCall, "key" | "continues">> = {},
): Promise<EngineCall> {
  return engine.open({ key: `test/call-${++opened}`, chat: call, body: bodyOf(call), forcedIds, ...more });
}

function collect(answer: Answer, step: StepCall): void {
  if (step.error !== undefined) throw step.error;
  if (step.tokens > 0) answer.texts.push(step.text);
  answer.text += step.text;
  answer.ids.push(...step.ids);
  answer.tokens += step.tokens;
  answer.deltas.push(...(step.deltas ?? []));
  answer.finish = step.finish;
}

/** Steps these calls together until each has ended or has (at least) this many tokens. They stay open. */
export async function advance(
  engine: Engine,
  calls: readonly EngineCall[],
  tokensMax = Number.POSITIVE_INFINITY,
): Promise<Answer[]> {
  const answers: Answer[] = calls.map(() => ({
    text: "",
    texts: [],
    ids: [],
    tokens: 0,
    deltas: [],
    finish: undefined,
  }));
  for (let steps = 0; steps < STEPS_MAX; steps++) {
    const live = calls.filter((_, i) => answers[i]?.finish === undefined && (answers[i]?.tokens ?? 0) < tokensMax);
    if (live.length === 0) return answers;
    const result = await engine.step(live);
    for (const step of result.calls) collect(answers[calls.indexOf(step.call)] as Answer, step);
  }
  throw new Error(`no end after ${STEPS_MAX} steps`);
}

/** One call alone, until it has ended or has this many tokens. */
export async function advanceOne(engine: Engine, call: EngineCall, tokensMax?: number): Promise<Answer> {
  const [answer] = await advance(engine, [call], tokensMax);
  if (answer === undefined) throw new Error("no answer");
  return answer;
}

/** One call from its opening to its end. */
export async function complete(engine: Engine, call: ChatCall, forcedIds: readonly number[] = []): Promise<Answer> {
  const one = await open(engine, call, forcedIds);
  try {
    return await advanceOne(engine, one);
  } finally {
    await engine.close(one);
  }
}

/** Prompts among which a fitting answer must be. */
const PROMPTS_MAX = 60;

export async function makeRig(subject: Subject, traits: Traits): Promise<Rig> {
  const { engine } = subject;
  if (subject.short !== undefined) {
    return { subject, engine, short: subject.short, whole: await complete(engine, subject.short) };
  }
  for (let i = 0; i < PROMPTS_MAX; i++) {
    const short = chat(`Tell me about thing ${i}.`);
    const whole = await complete(engine, short);
    const wide = !traits.ids || /[^ -~\n]/.test(whole.text);
    if (whole.finish === "stop" && whole.tokens >= 12 && whole.tokens <= 60 && wide) {
      return { subject, engine, short, whole };
    }
  }
  throw new Error("no prompt with a fitting answer");
}
