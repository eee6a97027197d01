/** A call goes on exactly where it was stopped, wherever that is (S2, preemption). */
import { afterEach, describe, expect, it } from "vitest";
import { END_ID } from "./conformance-server/model.ts";
import { type Answer, advanceOne, chat, complete, open } from "./contract.ts";
import { disposeRigs, type HttpRig, makeHttpRig } from "./http-rig.ts";

afterEach(disposeRigs);

/** Greedy answers that end by themselves and have open characters at many cuts. */
async function answersOf({ engine }: HttpRig, count: number, fields = {}) {
  const answers: { call: ReturnType<typeof chat>; whole: Answer }[] = [];
  for (let i = 0; answers.length < count; i++) {
    const call = chat(`Question ${i}?`, { completionTokensMax: 50, ...fields });
    const whole = await complete(engine, call);
    if (whole.finish === "stop" && whole.ids.length > 8 && whole.ids.length < 50) answers.push({ call, whole });
  }
  return answers;
}

describe.each(["vllm", "sglang", "llama-server"] as const)("the HTTP engine on %s", (dialect) => {
  it("continues forced ids at every cut, and says the text that they were shown as", async () => {
    const rig = await makeHttpRig({ dialect });
    for (const { call, whole } of await answersOf(rig, 2)) {
      for (let cut = 0; cut <= whole.ids.length; cut++) {
        const resumed = await open(rig.engine, call, whole.ids.slice(0, cut));
        const { forcedText } = resumed;
        expect(forcedText).not.toContain("\ufffd");
        expect(whole.text.startsWith(forcedText)).toBe(true);
        const rest = await advanceOne(rig.engine, resumed);
        expect([cut, forcedText + rest.text, rest.finish]).toEqual([cut, whole.text, "stop"]);
        expect(resumed.ids).toEqual(whole.ids);
        await rig.engine.close(resumed);
      }
    }
  });

  it.each([1, 3])(
    "goes on with a call that is parked after each step, %i tokens in a chunk",
    async (tokensPerChunk) => {
      const rig = await makeHttpRig({ dialect, tokensPerChunk });
      let parks = 0;
      const answers = await answersOf(rig, 4);
      rig.server.options.tokenMs = 2;
      for (const { call, whole } of answers) {
        const parked = await open(rig.engine, call);
        let text = "";
        for (let finish: string | undefined; finish === undefined; ) {
          const before = parked.completionTokens;
          const [step] = (await rig.engine.step([parked])).calls;
          if (step?.error !== undefined) throw step.error;
          text += step?.text ?? "";
          finish = step?.finish;
          if (parked.completionTokens === before) continue;
          await rig.engine.park(parked);
          parks++;
        }
        expect([text, parked.ids]).toEqual([whole.text, whole.ids]);
        expect(parked.completionTokens).toBe(whole.tokens + 1);
        await rig.engine.close(parked);
      }
      expect(parks).toBeGreaterThan(20);
    },
  );

  it("finds a stop sequence that a cut goes through, and gives back what only looked like one", async () => {
    const rig = await makeHttpRig({ dialect });
    const [first] = await answersOf(rig, 1);
    if (first === undefined) throw new Error("no answer");
    const { call, whole } = first;
    for (const at of [3, 6]) {
      const stop = [whole.text.slice(at, at + 5), `${whole.text.slice(1, 6)}\u0000`];
      const stopped = whole.text.slice(0, whole.text.indexOf(stop[0] ?? ""));
      for (let cut = 0; cut < whole.ids.length; cut++) {
        const resumed = await open(rig.engine, { ...call, stop }, whole.ids.slice(0, cut));
        const rest = await advanceOne(rig.engine, resumed);
        expect([cut, resumed.forcedText + rest.text, rest.finish]).toEqual([cut, stopped, "stop"]);
        await rig.engine.close(resumed);
      }
    }
  });

  it("counts no token behind a stop sequence, however many come at once", async () => {
    const rig = await makeHttpRig({ dialect });
    const [first] = await answersOf(rig, 1);
    if (first === undefined) throw new Error("no answer");
    for (const at of [2, 5]) {
      const call = { ...first.call, stop: [first.whole.text.slice(at, at + 3)] };
      rig.server.options.tokensPerChunk = 1;
      const { text, ids } = await complete(rig.engine, call);
      rig.server.options.tokensPerChunk = 5;
      expect(await complete(rig.engine, call)).toMatchObject({ text, ids, finish: "stop" });
    }
  });

  it("knows when forced ids have ended the call", async () => {
    const rig = await makeHttpRig({ dialect });
    const [first] = await answersOf(rig, 1);
    if (first === undefined) throw new Error("no answer");
    const { call, whole } = first;
    const ended = await open(rig.engine, call, [...whole.ids, END_ID]);
    expect(ended.forcedText).toBe(whole.text);
    const tokens = rig.engine.counters().tokens;
    expect(await advanceOne(rig.engine, ended)).toMatchObject({ text: "", tokens: 0, finish: "stop" });
    const full = await open(rig.engine, { ...call, completionTokensMax: 6 }, whole.ids.slice(0, 6));
    expect(await advanceOne(rig.engine, full)).toMatchObject({ text: "", tokens: 0, finish: "length" });
    expect(rig.engine.counters().tokens).toBe(tokens);
  });

  it("refuses ids of another model", async () => {
    const { engine } = await makeHttpRig({ dialect });
    const refused = async () => {
      const call = await open(engine, chat("Hello."), [5_000]);
      await advanceOne(engine, call);
    };
    await expect(refused()).rejects.toMatchObject({ code: "engine_error" });
  });

  it("shows no broken character of sampled answers, however often they are stopped", async () => {
    const { engine } = await makeHttpRig({ dialect, tokensPerChunk: 2, tokenMs: 1 });
    for (let i = 0; i < 6; i++) {
      const call = await open(engine, chat(`Sample ${i}.`, { temperature: 1, completionTokensMax: 30 }));
      let text = "";
      for (let finish: string | undefined; finish === undefined; ) {
        const before = call.completionTokens;
        const [step] = (await engine.step([call])).calls;
        if (step?.error !== undefined) throw step.error;
        text += step?.text ?? "";
        finish = step?.finish;
        if (call.completionTokens > before) await engine.park(call);
      }
      expect(text).not.toContain("\ufffd");
      expect(text).not.toContain("[assistant]");
      await engine.close(call);
    }
  });
});

describe("which calls can be stopped", () => {
  const stepped = async (rig: HttpRig, body: Record<string, unknown>, fields = {}) => {
    const call = { ...chat("Hello there.", { completionTokensMax: 30, ...fields }) };
    const { messages } = call;
    const opened = await rig.engine.open({
      key: "t/c",
      chat: call,
      body: { messages, max_completion_tokens: 30, temperature: 0, ...body },
      forcedIds: [],
    });
    const before = opened.preemptible;
    while (opened.completionTokens === 0) {
      const [step] = (await rig.engine.step([opened])).calls;
      if (step?.error !== undefined) throw step.error;
    }
    const after = opened.preemptible;
    await rig.engine.close(opened);
    return [before, after];
  };

  it.each([
    ["plain text", {}, {}, true],
    ["sampling without a seed", { temperature: 0.8, top_p: 0.9, top_k: 40 }, { temperature: 0.8 }, true],
    ["neutral values", { tools: [], response_format: { type: "text" }, logprobs: false, n: 1 }, {}, true],
    ["a seed and temperature", { seed: 7, temperature: 1 }, { seed: 7, temperature: 1 }, false],
    ["a seed at temperature 0", { seed: 7 }, { seed: 7 }, true],
    ["penalties", { presence_penalty: 1 }, { presencePenalty: 1 }, false],
    ["tools", { tools: [{ type: "function", function: { name: "f" } }] }, {}, false],
    ["logprobs", { logprobs: true }, {}, false],
    ["a schema", { response_format: { type: "json_schema", json_schema: {} } }, {}, false],
    ["a field that we do not know", { guided_regex: "a+" }, {}, false],
    ["an image", {}, { foreign: ["messages[0].content[1].type"] }, false],
    ["reasoning", { think: true }, {}, false],
  ])("%s", async (_name, body, fields, preemptible) => {
    const rig = await makeHttpRig({ dialect: "vllm", tokenMs: 2 });
    expect(await stepped(rig, body, fields)).toEqual([true, preemptible]);
  });

  it("only those without a token, where the server has no ids", async () => {
    for (const options of [{ dialect: "openai" }, { dialect: "vllm", noIds: true }] as const) {
      const rig = await makeHttpRig({ ...options, tokenMs: 2 });
      expect(rig.engine.info.preemption).toBe("none");
      expect(await stepped(rig, {})).toEqual([true, false]);
    }
  });

  it("begins a call again that was stopped before its first token", async () => {
    const rig = await makeHttpRig({ dialect: "openai", tokenMs: 30 });
    const whole = await complete(rig.engine, chat("Again.", { completionTokensMax: 5 }));
    const call = await open(rig.engine, chat("Again.", { completionTokensMax: 5 }));
    await rig.engine.step([call]);
    expect([call.completionTokens, call.preemptible]).toEqual([0, true]);
    await rig.engine.park(call);
    expect((await advanceOne(rig.engine, call)).text).toBe(whole.text);
    expect(rig.server.requests).toHaveLength(3);
  });
});
