/** Text, ids, stop sequences, limits, and attempts that go on where an earlier one was. */
import type { ChatCall } from "@autellix/protocol";
import { expect, it } from "vitest";
import {
  type Answer,
  advance,
  advanceOne,
  chat,
  complete,
  itIf,
  open,
  type Rig,
  SUBJECT,
  type Traits,
} from "./subject.ts";

export function answerTests(rig: Rig, can: Traits): void {
  if (can.ids && can.exactBatch) forcedTests(rig);

  itIf(can.ids)("gives text that, put together, is the text of all ids at once", async () => {
    const { engine, subject } = rig;
    for (let i = 0; i < 8; i++) {
      const answer = await complete(
        engine,
        chat(`What is ${i}?`, { temperature: 1, seed: i, completionTokensMax: 80 }),
      );
      expect(answer.text).toBe(subject.decode(answer.ids).replace(/\ufffd+$/, ""));
    }
  });

  itIf(can.exactText)("ends at a stop sequence wherever it lies, and shows nothing of it", async () => {
    const { engine, short, whole } = rig;
    for (let at = 0; at + 4 <= whole.text.length; at++) {
      const stop = whole.text.slice(at, at + 4);
      const answer = await complete(engine, { ...short, stop: ["never in the text", stop] });
      expect([answer.text, answer.finish]).toEqual([whole.text.slice(0, whole.text.indexOf(stop)), "stop"]);
    }
  });

  itIf(can.exactText)("gives back what only looked like a stop sequence", async () => {
    const { engine, short, whole } = rig;
    const stop = `${whole.text.slice(2, 8)}\u0000`;
    expect(await complete(engine, { ...short, stop: [stop] })).toMatchObject({
      text: whole.text,
      finish: whole.finish,
    });
  });

  it("ends at completionTokensMax with length", async () => {
    const { engine, short, whole } = rig;
    const answer = await complete(engine, { ...short, completionTokensMax: 5 });
    expect(answer).toMatchObject({ finish: "length", tokens: 5 });
    if (can.ids && can.exactText) expect(answer.ids).toEqual(whole.ids.slice(0, 5));
    if (can.exactText) expect(whole.text.startsWith(answer.text)).toBe(true);
  });

  it("refuses what does not fit the context", async () => {
    const { engine } = rig;
    const error = { code: "context_length_exceeded" };
    // A server that only counts a prompt when it computes it refuses it then.
    const refuse = can.forwards ? complete : open;
    await expect(refuse(engine, chat("word ".repeat(3_000)))).rejects.toMatchObject(error);
    await expect(refuse(engine, chat("word ".repeat(3_000_000)))).rejects.toMatchObject(error);
    const long = chat("Hello.", { completionTokensMax: SUBJECT.contextTokensMax });
    await expect(refuse(engine, long)).rejects.toMatchObject(error);
  });
}

function forcedTests(rig: Rig): void {
  it("continues forced ids at every cut, without repeating or losing a character", async () => {
    await expectSameAtEveryCut(rig.short, rig.whole);
  });

  it("continues sampled answers with a seed at every cut", async () => {
    const { engine, short } = rig;
    const sampled = { ...short, temperature: 1, seed: 7, completionTokensMax: 40 };
    const answer = await complete(engine, sampled);
    expect((await complete(engine, sampled)).ids).toEqual(answer.ids);
    expect((await complete(engine, { ...sampled, seed: 8 })).ids).not.toEqual(answer.ids);
    await expectSameAtEveryCut(sampled, answer);
  });

  it("continues forced ids at every cut while a stop sequence is open", async () => {
    const { engine, short, whole } = rig;
    const stop = whole.text.slice(-6, -1);
    const stopping = { ...short, stop: [stop, `${whole.text.slice(3, 9)}\u0000`] };
    await expectSameAtEveryCut(stopping, await complete(engine, stopping));
  });

  it("says what text the forced ids are", async () => {
    const { engine, short, whole } = rig;
    for (let cut = 0; cut <= whole.ids.length; cut++) {
      const call = await open(engine, short, whole.ids.slice(0, cut));
      expect(call.forcedText).toBe(whole.texts.slice(0, cut).join(""));
      await engine.close(call);
    }
  });

  it("ends at once, without text, when the forced ids already ended the call", async () => {
    const { engine, short, whole } = rig;
    const before = engine.counters().tokens;
    expect(await complete(engine, short, whole.ids)).toMatchObject({ text: "", ids: [], finish: "stop" });
    const five = { ...short, completionTokensMax: 5 };
    expect(await complete(engine, five, whole.ids.slice(0, 5))).toMatchObject({ text: "", ids: [], finish: "length" });
    expect(engine.counters().tokens).toBe(before);
  });

  it("counts tokens: prompt, answer with forced ids, context", async () => {
    const { engine, short, whole } = rig;
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

  it("ends with length where the context ends", async () => {
    const { engine, whole } = rig;
    const call = await open(engine, chat("word ".repeat(40)));
    const room = SUBJECT.contextTokensMax - call.promptTokens;
    await engine.close(call);
    const forced = Array.from({ length: room - 2 }, (_, i) => whole.ids[i % 4] as number);
    const last = await open(engine, chat("word ".repeat(40)), forced);
    const answer = await advanceOne(engine, last);
    expect(last.promptTokens + last.completionTokens).toBeLessThanOrEqual(SUBJECT.contextTokensMax);
    expect(answer.finish).toBeDefined();
    await engine.close(last);
  });

  it("refuses ids that are not its own, and calls beside it are unaffected", async () => {
    const { engine, short, whole, subject } = rig;
    const call = await open(engine, short);
    await expect(open(engine, short, [subject.foreignId])).rejects.toMatchObject({ code: "engine_error" });
    expect((await advanceOne(engine, call)).text).toBe(whole.text);
    await engine.close(call);
  });

  async function expectSameAtEveryCut(call: ChatCall, full: Answer): Promise<void> {
    for (let cut = 0; cut <= full.ids.length; cut++) {
      const rest = await complete(rig.engine, call, full.ids.slice(0, cut));
      const shown = full.texts.slice(0, cut).join("");
      expect([cut, shown + rest.text, rest.finish]).toEqual([cut, full.text, full.finish]);
      expect(rest.ids).toEqual(full.ids.slice(cut));
    }
  }
}
