import { execFile } from "node:child_process";
import { copyFile, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { LlamaContextSequence } from "node-llama-cpp";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { hash } from "../src/hash.ts";
import type { LlamaCall } from "../src/llama/call.ts";
import { type LlamaEngine, openLlamaEngine } from "../src/llama/index.ts";
import type { EngineCall } from "../src/port.ts";
import { tinyModel, writeTinyModel } from "../src/tiny-model/index.ts";
import { advance, chat, complete, open } from "./contract.ts";
import { llamaContract } from "./llama-contract.ts";

const evaluated = LlamaContextSequence.prototype.controlledEvaluate;
const folder = await mkdtemp(join(tmpdir(), "autellix-engines-"));
const modelFile = join(folder, "tiny.gguf");
await writeTinyModel(modelFile, { seed: 1 });
afterAll(() => rm(folder, { recursive: true }));

llamaContract("the llama engine", async () => modelFile, 512);

describe("the llama engine on the tiny model", () => {
  let engine: LlamaEngine;
  beforeAll(async () => {
    engine = await openLlamaEngine({ modelFile, models: ["tiny"], batchCallsMax: 8 });
  });
  afterAll(() => engine.shutdown());

  it("measures its slice at the start and says what it can hold", () => {
    expect([32, 16, 8, 4, 2, 1]).toContain(engine.sliceTokens);
    expect(engine.info).toMatchObject({
      kind: "llama",
      contextTokensMax: 2048,
      kvBlocks: (8 * 2048) / 16,
      blockTokens: 16,
    });
    expect(engine.counters()).toMatchObject({ steps: 0, batchMax: 0, residentCalls: 0 });
  });

  it("gives answers of varied, finite lengths in whole characters, greedy and sampled", async () => {
    for (const temperature of [0, 1]) {
      const calls = Array.from({ length: 40 }, (_, i) =>
        chat(`Question ${i}: ${"why so ".repeat(i % 9)}?`, { temperature, seed: i }),
      );
      const answers = [];
      for (let i = 0; i < calls.length; i += 8) {
        const batch = await Promise.all(calls.slice(i, i + 8).map((one) => open(engine, one)));
        answers.push(...(await advance(engine, batch)));
        await Promise.all(batch.map((call) => engine.close(call)));
      }
      const lengths = answers.map((answer) => answer.ids.length).sort((a, b) => a - b);
      expect(new Set(answers.map((answer) => answer.finish))).toEqual(new Set(["stop"]));
      expect(answers.filter((answer) => answer.text.includes("\ufffd"))).toEqual([]);
      expect(new Set(lengths).size).toBeGreaterThan(15);
      expect(lengths.at(-1)).toBeLessThan(400);
      expect(lengths[20]).toBeGreaterThan(10);
    }
  });

  it("decodes a batch in the order of its places, whatever order it was given in and whoever left before", async () => {
    // The library's own number of a sequence: what llama.cpp goes by.
    const numberOf = (sequence: unknown) => (sequence as { _sequenceId: number })._sequenceId;
    const decoded: number[] = [];
    const evaluate = vi.spyOn(LlamaContextSequence.prototype, "controlledEvaluate").mockImplementation(function (
      this: LlamaContextSequence,
      ...args
    ) {
      decoded.push(numberOf(this));
      return evaluated.apply(this, args);
    });
    try {
      const calls = new Set<EngineCall>();
      for (let round = 0; round < 30; round++) {
        while (calls.size < 8) {
          const call = await open(engine, chat(`Question ${round}: why so?`, { completionTokensMax: 500 }));
          calls.add(call);
          while (call.completionTokens === 0) await engine.step([call]);
        }
        const batch = [...calls].sort((a, b) => hash(round, a.ids[0] ?? 0) - hash(round, b.ids[0] ?? 0)).slice(0, 6);
        decoded.length = 0;
        const { calls: results } = await engine.step(batch);
        expect(results.map(({ call }) => call)).toEqual(batch);
        expect(decoded).toEqual([...decoded].sort((a, b) => a - b));
        for (const { call, finish } of results) {
          expect(numberOf((call as LlamaCall).seat?.sequence)).toBe((call as LlamaCall).seat?.place);
          if (finish !== undefined || call === batch[round % 6]) {
            await engine.close(call);
            calls.delete(call);
          }
        }
      }
      for (const call of calls) await engine.close(call);
    } finally {
      evaluate.mockRestore();
    }
  });

  it("advances the sequences of the plan in force and no others, over 1,000 random steps", async () => {
    const STEPS = 1_000;
    const before = engine.counters();
    const calls: EngineCall[] = [];
    const wrong: string[] = [];
    let [planned, generated, prefilled] = [0, 0, 0];
    for (let step = 0; step < STEPS; step++) {
      while (calls.length < 8)
        calls.push(await open(engine, chat(`Question ${step} of many, ${"and so on ".repeat(step % 7)}?`)));
      const batch = calls.filter((_, i) => (hash(step, i) & 3) === 0 || i === step % 8);
      const stood = calls.map((call) => ({ call, context: call.contextTokens, tokens: call.completionTokens }));
      const { calls: results } = await engine.step(batch);
      for (const { call, context, tokens } of stood) {
        const result = results[batch.indexOf(call)];
        const [gained, grew] = [call.completionTokens - tokens, call.contextTokens - context];
        // A slice of the prompt, or the token before the one that is generated.
        const expected = result === undefined ? 0 : result.prefilledTokens || result.tokens;
        if (gained !== (result?.tokens ?? 0) || grew !== expected)
          wrong.push(`step ${step}, ${call.key}: ${gained}, ${grew}`);
        generated += gained;
        prefilled += result?.prefilledTokens ?? 0;
      }
      planned += batch.length;
      for (const { call, finish } of results) {
        if (finish === undefined) continue;
        await engine.close(call);
        calls.splice(calls.indexOf(call), 1);
      }
    }
    await Promise.all(calls.map((call) => engine.close(call)));
    expect(wrong).toEqual([]);
    const after = engine.counters();
    expect({
      steps: after.steps - before.steps,
      stepCalls: after.stepCalls - before.stepCalls,
      tokens: after.tokens - before.tokens,
      prefilledTokens: after.prefilledTokens - before.prefilledTokens,
    }).toEqual({ steps: STEPS, stepCalls: planned, tokens: generated, prefilledTokens: prefilled });
    expect(generated).toBeGreaterThan(STEPS);
  });

  it("reports a call that finds no context, unharmed itself and beside unharmed neighbours", async () => {
    const question = chat("One of many.");
    const whole = await complete(engine, question);
    const calls = await Promise.all(Array.from({ length: 9 }, () => open(engine, question)));
    for (const call of calls.slice(0, 8)) await advance(engine, [call], 2);
    const [first, ninth] = [calls[0] as EngineCall, calls[8] as EngineCall];
    const { calls: steps } = await engine.step([ninth, first]);
    expect(steps.map((step) => [step.error?.message.includes("no context is free") ?? false, step.tokens])).toEqual([
      [true, 0],
      [false, 1],
    ]);
    await engine.evict(calls[1] as EngineCall);
    await advance(engine, [ninth, first]);
    expect([ninth.ids, first.ids]).toEqual([whole.ids, whole.ids]);
    await Promise.all(calls.map((call) => engine.close(call)));
  });

  it("gives the same text on engines with other slices, also to a call that moves between them", async () => {
    const other = await openLlamaEngine({ modelFile, models: ["tiny"], sliceTokens: 8 });
    try {
      for (const temperature of [0, 1]) {
        const call = chat(`The same question for both. ${"And more of it. ".repeat(10)}`, { temperature, seed: 5 });
        const answer = await complete(engine, call);
        expect((await complete(other, call)).ids).toEqual(answer.ids);
        for (let cut = 1; cut < answer.ids.length; cut += 7) {
          expect((await complete(other, call, answer.ids.slice(0, cut))).ids).toEqual(answer.ids.slice(cut));
        }
      }
    } finally {
      await other.shutdown();
    }
  });
});

describe("the host tier of the llama engine", () => {
  let engine: LlamaEngine;
  const question = chat(`Once more. ${"word ".repeat(20)}`, { completionTokensMax: 30 });
  beforeAll(async () => {
    engine = await openLlamaEngine({ modelFile, models: ["tiny"], hostKvDir: folder });
  });
  afterAll(() => engine.shutdown());

  async function swappedOut(call = question): Promise<LlamaCall> {
    const one = (await open(engine, call)) as LlamaCall;
    await advance(engine, [one], 8);
    await engine.swapOut(one);
    return one;
  }

  it("recomputes a call whose file is gone, cut off, of another format or of another call", async () => {
    const whole = await complete(engine, question);
    const other = await swappedOut(chat(`Another. ${"word ".repeat(20)}`));
    const harms: ((path: string) => Promise<void>)[] = [
      (path) => rm(path),
      (path) => truncate(path, 5_000),
      (path) => writeFile(path, Buffer.alloc(50_000, 7)),
      (path) => copyFile(other.host?.path ?? "", path),
    ];
    for (const harm of harms) {
      const call = await swappedOut();
      await harm(call.host?.path ?? "");
      expect([await engine.swapIn(call), call.contextTokens, call.hostTokens]).toEqual([undefined, 0, 0]);
      await advance(engine, [call]);
      expect(call.ids).toEqual(whole.ids);
      await engine.close(call);
    }
    await engine.close(other);
    expect(engine.counters()).toMatchObject({ residentCalls: 0, hostBytes: 0 });
  });

  it("takes nothing over from an engine with other contexts or another model", async () => {
    const otherModel = join(folder, "other.gguf");
    await writeTinyModel(otherModel, { seed: 2 });
    const call = await swappedOut();
    expect(await engine.leave(call)).toBeDefined();
    for (const differs of [{ residentCallsMax: 9 }, { contextTokensMax: 1024 }, { modelFile: otherModel }]) {
      const other = await openLlamaEngine({ modelFile, models: ["tiny"], hostKvDir: folder, ...differs });
      expect((await open(other, question, [], { key: call.key })).hostTokens).toBe(0);
      await other.shutdown();
    }
    const heir = await open(engine, question, call.ids, { key: call.key });
    expect(heir.hostTokens).toBeGreaterThan(0);
    await engine.close(heir);
  });

  it("is not there at 0 bytes, and calls are recomputed", async () => {
    const without = await openLlamaEngine({ modelFile, models: ["tiny"], hostKvDir: folder, hostKvBytesMax: 0 });
    expect(without.info).toMatchObject({ preemption: "recompute", hostBlocks: 0, retains: true });
    const call = await open(without, question);
    await advance(without, [call], 2);
    expect([await without.swapOut(call), await without.leave(call)]).toEqual([undefined, undefined]);
    await without.shutdown();
  });

  it("says so when it is too small for a block, and is not there then", async () => {
    const lines: string[] = [];
    const warn = (line: string) => lines.push(line);
    const small = await openLlamaEngine({ modelFile, models: ["tiny"], hostKvDir: folder, hostKvBytesMax: 100, warn });
    expect([small.info.hostBlocks, small.info.preemption]).toEqual([0, "recompute"]);
    expect(lines).toContainEqual(
      expect.stringMatching(/^There is no host tier for KV: 100 bytes do not hold one block/),
    );
    await small.shutdown();
  });
});

describe("a llama engine that cannot be opened", () => {
  it("says in one sentence what to do", async () => {
    const broken = join(folder, "broken.gguf");
    await writeFile(broken, tinyModel(1).subarray(0, 100_000));
    const page = join(folder, "page.gguf");
    await writeFile(page, "<html>not found</html>");
    for (const [file, reason] of [
      [join(folder, "absent.gguf"), /cannot be read \(ENOENT.*: name a GGUF file/],
      [page, /is no GGUF file: fetch it again/],
      [broken, /cannot be loaded \(.*: fetch it again/],
    ] as const) {
      const opening = openLlamaEngine({ modelFile: file, models: ["m"] });
      await expect(opening).rejects.toMatchObject({ code: "engine_error", message: expect.stringMatching(reason) });
    }
  });

  it("refuses more contexts than llama.cpp can hold", async () => {
    const opening = openLlamaEngine({ modelFile, models: ["m"], residentCallsMax: 257 });
    const message = "residentCallsMax must be from batchCallsMax (4) to 256.";
    await expect(opening).rejects.toMatchObject({ code: "engine_error", message });
  });
});

it("a process that shuts its engine down exits by itself", async () => {
  const script = join(folder, "exit.ts");
  const source = new URL("../src/llama/index.ts", import.meta.url).href;
  await writeFile(
    script,
    `import { openLlamaEngine } from ${JSON.stringify(source)};
     const engine = await openLlamaEngine({ modelFile: ${JSON.stringify(modelFile)}, models: ["m"] });
     await engine.open({ key: "k", chat: ${JSON.stringify(chat("Hello"))}, body: {}, forcedIds: [] }).then((call) => engine.step([call]));
     await engine.shutdown();
     console.log("down");`,
  );
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 60_000 });
  expect(stdout.trim()).toBe("down");
});
