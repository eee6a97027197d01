/** What every engine must do. Each adapter's tests call `engineContract`. */
import type { ChatCall, FinishReason } from "@autellix/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Engine, EngineCall, StepCall } from "../src/port.ts";

/** The engine under test: batches of 4, 8 resident calls, contexts of 512 tokens, slices of 16. */
export interface Subject {
  engine: Engine;
  /** Text of all these ids at once, by means other than the engine's own stream. */
  decode(ids: readonly number[]): string;
  /** Beyond the vocabulary. */
  foreignId: number;
}
export const SUBJECT = { batchCallsMax: 4, residentCallsMax: 8, contextTokensMax: 512, sliceTokens: 16 } as const;

export interface Answer {
  text: string;
  /** What each token of this attempt added to the text. */
  texts: string[];
  ids: number[];
  finish: FinishReason | undefined;
}

/** Steps after which a test gives up: contexts end long before. */
const STEPS_MAX = 2_000;
/** Prompts among which a fitting answer must be. */
const PROMPTS_MAX = 60;

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
    ...fields,
  };
}

let opened = 0;
export function open(engine: Engine, call: ChatCall, forcedIds: readonly number[] = []): Promise<EngineCall> {
  return engine.open({ key: `call-${++opened}`, chat: call, forcedIds });
}

function collect(answer: Answer, step: StepCall): void {
  if (step.error !== undefined) throw step.error;
  if (step.tokens > 0) answer.texts.push(step.text);
  answer.text += step.text;
  answer.ids.push(...step.ids);
  answer.finish = step.finish;
}

/** Steps these calls together until each has ended or has this many tokens. They stay open. */
export async function advance(
  engine: Engine,
  calls: readonly EngineCall[],
  tokensMax = Number.POSITIVE_INFINITY,
): Promise<Answer[]> {
  const answers: Answer[] = calls.map(() => ({ text: "", texts: [], ids: [], finish: undefined }));
  for (let steps = 0; steps < STEPS_MAX; steps++) {
    const live = calls.filter((_, i) => answers[i]?.finish === undefined && (answers[i]?.ids.length ?? 0) < tokensMax);
    if (live.length === 0) return answers;
    const result = await engine.step(live);
    for (const step of result.calls) collect(answers[calls.indexOf(step.call)] as Answer, step);
  }
  throw new Error(`no end after ${STEPS_MAX} steps`);
}

/** One call from its opening to its end. */
export async function complete(engine: Engine, call: ChatCall, forcedIds: readonly number[] = []): Promise<Answer> {
  const one = await open(engine, call, forcedIds);
  try {
    const [answer] = await advance(engine, [one]);
    if (answer === undefined) throw new Error("no answer");
    return answer;
  } finally {
    await engine.close(one);
  }
}

export function engineContract(
  name: string,
  make: () => Promise<Subject>,
  dispose: (subject: Subject) => Promise<void>,
): void {
  describe(`${name} keeps the contract of the engine port`, () => {
    let subject: Subject;
    let engine: Engine;
    /** A prompt whose greedy answer is short, ends by itself and has characters of several bytes. */
    let short: ChatCall;
    let whole: Answer;

    beforeAll(async () => {
      subject = await make();
      engine = subject.engine;
      for (let i = 0; i < PROMPTS_MAX; i++) {
        short = chat(`Tell me about thing ${i}.`);
        whole = await complete(engine, short);
        const wide = /[^ -~\n]/.test(whole.text);
        if (whole.finish === "stop" && whole.ids.length >= 12 && whole.ids.length <= 60 && wide) return;
      }
      throw new Error("no prompt with a fitting answer");
    });
    afterAll(() => dispose(subject));

    it("advances only the calls of the batch", async () => {
      const [a, b] = [await open(engine, short), await open(engine, short)];
      await advance(engine, [a], 3);
      expect([a.completionTokens, b.completionTokens, b.contextTokens]).toEqual([3, 0, 0]);
      await Promise.all([engine.close(a), engine.close(b)]);
    });

    it("advances a batch together, with one result for each call in its order", async () => {
      const calls = await Promise.all([0, 1, 2, 3].map((i) => open(engine, chat(`Question number ${i}?`))));
      await advance(engine, calls, 2);
      const before = engine.counters();
      const result = await engine.step(calls);
      expect(result.calls.map((step) => [step.call.key, step.tokens])).toEqual(calls.map((call) => [call.key, 1]));
      const after = engine.counters();
      expect([after.steps - before.steps, after.stepCalls - before.stepCalls, after.batchMax]).toEqual([1, 4, 4]);
      await Promise.all(calls.map((call) => engine.close(call)));
    });

    it("gives at most one slice of prompt per step, to the first call that needs it", async () => {
      const calls = await Promise.all([0, 1].map((i) => open(engine, chat(`${i} ${"word ".repeat(60)}`))));
      const { calls: steps } = await engine.step(calls);
      expect(steps.map((step) => [step.prefilledTokens, step.tokens])).toEqual([
        [SUBJECT.sliceTokens, 0],
        [0, 0],
      ]);
      await Promise.all(calls.map((call) => engine.close(call)));
    });

    it("gives a call the same text alone and beside others", async () => {
      const calls = await Promise.all(
        [short, chat("Another one."), chat("And a third, longer than the second."), short].map((one) =>
          open(engine, one),
        ),
      );
      const answers = await advance(engine, calls);
      expect([answers[0]?.text, answers[3]?.text]).toEqual([whole.text, whole.text]);
      await Promise.all(calls.map((call) => engine.close(call)));
    });

    it("goes on with a parked call as if it had not waited", async () => {
      const [parked, other] = [await open(engine, short), await open(engine, chat("Something else."))];
      const [first] = await advance(engine, [parked], 5);
      await advance(engine, [other], 5);
      const [rest] = await advance(engine, [parked]);
      expect(`${first?.text}${rest?.text}`).toBe(whole.text);
      await Promise.all([engine.close(parked), engine.close(other)]);
    });

    it("recomputes an evicted call and goes on with the same text", async () => {
      for (const cut of [1, 4, whole.ids.length - 1]) {
        const call = await open(engine, short);
        const [first] = await advance(engine, [call], cut);
        await engine.evict(call);
        await engine.evict(call);
        expect([call.contextTokens, call.completionTokens]).toEqual([0, cut]);
        const [rest] = await advance(engine, [call]);
        expect([`${first?.text}${rest?.text}`, call.ids]).toEqual([whole.text, whole.ids]);
        await engine.close(call);
      }
    });

    it("continues forced ids at every cut, without repeating or losing a character", async () => {
      await expectSameAtEveryCut(short, whole);
    });

    it("continues sampled answers with a seed at every cut", async () => {
      const sampled = { ...short, temperature: 1, seed: 7 };
      const answer = await complete(engine, { ...sampled, completionTokensMax: 40 });
      expect((await complete(engine, { ...sampled, completionTokensMax: 40 })).ids).toEqual(answer.ids);
      expect((await complete(engine, { ...sampled, seed: 8, completionTokensMax: 40 })).ids).not.toEqual(answer.ids);
      await expectSameAtEveryCut({ ...sampled, completionTokensMax: 40 }, answer);
    });

    it("gives text that, put together, is the text of all ids at once", async () => {
      for (let i = 0; i < 8; i++) {
        const answer = await complete(
          engine,
          chat(`What is ${i}?`, { temperature: 1, seed: i, completionTokensMax: 80 }),
        );
        expect(answer.text).toBe(subject.decode(answer.ids).replace(/\ufffd+$/, ""));
      }
    });

    it("ends at a stop sequence wherever it lies, and shows nothing of it", async () => {
      for (let at = 0; at + 4 <= whole.text.length; at++) {
        const stop = whole.text.slice(at, at + 4);
        const answer = await complete(engine, { ...short, stop: ["never in the text", stop] });
        expect([answer.text, answer.finish]).toEqual([whole.text.slice(0, whole.text.indexOf(stop)), "stop"]);
      }
    });

    it("gives back what only looked like a stop sequence", async () => {
      const stop = `${whole.text.slice(2, 8)}\u0000`;
      expect(await complete(engine, { ...short, stop: [stop] })).toMatchObject({ text: whole.text, finish: "stop" });
    });

    it("continues forced ids at every cut while a stop sequence is open", async () => {
      const stop = whole.text.slice(-6, -1);
      const stopping = { ...short, stop: [stop, `${whole.text.slice(3, 9)}\u0000`] };
      await expectSameAtEveryCut(stopping, await complete(engine, stopping));
    });

    it("ends at completionTokensMax with length", async () => {
      const answer = await complete(engine, { ...short, completionTokensMax: 5 });
      expect(answer).toMatchObject({ finish: "length", ids: whole.ids.slice(0, 5) });
      expect(whole.text.startsWith(answer.text)).toBe(true);
    });

    it("ends at once, without text, when the forced ids already ended the call", async () => {
      const before = engine.counters().tokens;
      expect(await complete(engine, short, whole.ids)).toMatchObject({ text: "", ids: [], finish: "stop" });
      const five = { ...short, completionTokensMax: 5 };
      expect(await complete(engine, five, whole.ids.slice(0, 5))).toMatchObject({
        text: "",
        ids: [],
        finish: "length",
      });
      expect(engine.counters().tokens).toBe(before);
    });

    it("counts tokens: prompt, answer with forced ids, context", async () => {
      const before = engine.counters();
      const call = await open(engine, short, whole.ids.slice(0, 3));
      expect([call.completionTokens, call.contextTokens]).toEqual([3, 0]);
      await advance(engine, [call], 4);
      expect([call.completionTokens, call.ids]).toEqual([7, whole.ids.slice(0, 7)]);
      expect(call.contextTokens).toBe(call.promptTokens + 6);
      const during = engine.counters();
      expect([during.residentCalls, during.contextTokens]).toEqual([1, call.contextTokens]);
      expect([during.tokens - before.tokens, during.prefilledTokens - before.prefilledTokens]).toEqual([
        4,
        call.promptTokens + 3,
      ]);
      expect(during.busyMs).toBeGreaterThanOrEqual(before.busyMs);
      await engine.close(call);
    });

    it("refuses what does not fit the context", async () => {
      const error = { code: "context_length_exceeded" };
      await expect(open(engine, chat("word ".repeat(3_000)))).rejects.toMatchObject(error);
      await expect(open(engine, chat("word ".repeat(3_000_000)))).rejects.toMatchObject(error);
      await expect(
        open(engine, chat("Hello.", { completionTokensMax: SUBJECT.contextTokensMax })),
      ).rejects.toMatchObject(error);
    });

    it("ends with length where the context ends", async () => {
      const call = await open(engine, chat("word ".repeat(40)));
      const room = SUBJECT.contextTokensMax - call.promptTokens;
      await engine.close(call);
      const forced = Array.from({ length: room - 2 }, (_, i) => whole.ids[i % 4] as number);
      const last = await open(engine, chat("word ".repeat(40)), forced);
      const [answer] = await advance(engine, [last]);
      expect(last.promptTokens + last.completionTokens).toBeLessThanOrEqual(SUBJECT.contextTokensMax);
      expect(answer?.finish).toBeDefined();
      await engine.close(last);
    });

    it("refuses ids that are not its own, and calls beside it are unaffected", async () => {
      const call = await open(engine, short);
      await expect(open(engine, short, [subject.foreignId])).rejects.toMatchObject({ code: "engine_error" });
      expect((await advance(engine, [call]))[0]?.text).toBe(whole.text);
      await engine.close(call);
    });

    it("frees a call that is closed in the middle of its prompt", async () => {
      const call = await open(engine, chat("word ".repeat(100)));
      await engine.step([call]);
      expect(call.contextTokens).toBe(SUBJECT.sliceTokens);
      await engine.close(call);
      await engine.close(call);
      expect(engine.counters()).toMatchObject({ residentCalls: 0, contextTokens: 0 });
      await expect(engine.step([call])).rejects.toThrow();
    });

    it("frees a call that is closed under a running step, and its neighbours go on", async () => {
      const [closing, other] = [await open(engine, chat("word ".repeat(100))), await open(engine, short)];
      await advance(engine, [other], 2);
      const step = engine.step([closing, other]);
      await engine.close(closing);
      await step;
      expect(engine.counters().residentCalls).toBe(1);
      await advance(engine, [other]);
      expect(other.ids).toEqual(whole.ids);
      await engine.close(other);
    });

    it("holds as many contexts as it says", async () => {
      const calls = await Promise.all(Array.from({ length: SUBJECT.residentCallsMax }, () => open(engine, short)));
      for (const call of calls) await advance(engine, [call], 2);
      expect(engine.counters().residentCalls).toBe(SUBJECT.residentCallsMax);
      for (const call of calls) expect((await advance(engine, [call]))[0]?.finish).toBe("stop");
      await Promise.all(calls.map((call) => engine.close(call)));
      expect(engine.counters().residentCalls).toBe(0);
    });

    it("refuses a second step while one runs, and a batch that breaks the rules", async () => {
      const calls = await Promise.all(Array.from({ length: SUBJECT.batchCallsMax + 1 }, () => open(engine, short)));
      const [first] = calls as [EngineCall];
      const running = engine.step([first]);
      await expect(engine.step([first])).rejects.toThrow();
      await running;
      await expect(engine.step([])).rejects.toThrow();
      await expect(engine.step([first, first])).rejects.toThrow();
      await expect(engine.step(calls)).rejects.toThrow();
      await Promise.all(calls.map((call) => engine.close(call)));
    });

    async function expectSameAtEveryCut(call: ChatCall, full: Answer): Promise<void> {
      for (let cut = 0; cut <= full.ids.length; cut++) {
        const rest = await complete(engine, call, full.ids.slice(0, cut));
        const shown = full.texts.slice(0, cut).join("");
        expect([cut, shown + rest.text, rest.finish]).toEqual([cut, full.text, full.finish]);
        expect(rest.ids).toEqual(full.ids.slice(cut));
      }
    }
  });
}
