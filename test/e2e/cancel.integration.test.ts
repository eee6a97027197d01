/**
 * A call that nobody waits for any more leaves the engine at once. On the default model when it is in the cache: its
 * prefill takes seconds; else on the simulated engine.
 */

import type { ReportCall } from "@autellix/protocol";
import { DEFAULT_MODEL } from "@autellix/runtime";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Observer, openObserver } from "../support/observer.ts";
import { cachedDefaultModel, startTestStack, type TestStack } from "../support/stack.ts";

const trained = cachedDefaultModel();
const MODEL = trained ? DEFAULT_MODEL.name : "tiny";
const ENGINE = `${MODEL}-0`;
const BATCH_CALLS_MAX = 2;
/** About 1,500 tokens on the default model; a prefill of several slices on either. */
const LONG_PROMPT = "The quick brown fox jumps over the lazy dog. ".repeat(trained ? 145 : 700);
const LONG_TOKENS = trained ? 1_500 : 7_000;
const STORY = "Write a very long story about a fox, a dog and their many travels around the world.";
const ROUNDS = 5;
const STORM_CALLS = 60;
/** Clients leave within this time: before their call is in the queue, while it waits, while it runs. */
const STORM_MS = 200;
const POLL_MS = 10;
/** What the system promises is 250 ms; a busy machine may take longer, but a hang is a failure. */
const FREED_MS_MAX = 2_000;
const SETTLE = { timeout: 30_000, interval: POLL_MS };

let stack: TestStack;
let observer: Observer;

beforeAll(async () => {
  stack = await startTestStack({
    models: [trained ?? "tiny"],
    frontends: 2,
    // First come, first served: what waits behind a full batch waits.
    args: [...(trained ? [] : ["--engine", "simulated"]), "--policy", "fcfs"],
    env: { AUTELLIX_BATCH_CALLS_MAX: String(BATCH_CALLS_MAX) },
  });
  observer = await openObserver(stack.natsUrl);
});

afterAll(async () => {
  await observer?.close();
  await stack?.stop();
});

interface OpenOptions {
  headers?: Record<string, string>;
  tokensMax?: number;
  /** Index of the frontend. */
  frontend?: number;
}

interface OpenCall {
  /** The client's connection is cut. */
  leave(): void;
  /** All that was received, once the server has ended it. @throws when it was cut. */
  rest: Promise<string>;
  /** Resolves at the first piece of text. */
  started: Promise<string>;
}

function open(content: string, { headers = {}, tokensMax = LONG_TOKENS, frontend = 0 }: OpenOptions = {}): OpenCall {
  const abort = new AbortController();
  const first = Promise.withResolvers<string>();
  const rest = (async () => {
    const response = await fetch(`${stack.urls[frontend]}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify({
        model: MODEL,
        messages: [{ role: "user", content }],
        max_tokens: tokensMax,
        temperature: 0,
        stream: true,
      }),
      signal: abort.signal,
    });
    let text = "";
    for await (const bytes of response.body ?? []) {
      text += Buffer.from(bytes).toString("utf8");
      const callId = /"content":"[^"]/.test(text) && /chatcmpl-([A-Za-z0-9_-]+)/.exec(text)?.[1];
      if (callId) first.resolve(callId);
    }
    return text;
  })();
  // Whoever leaves does not look at it.
  rest.catch(() => {});
  return { leave: () => abort.abort(), rest, started: first.promise };
}

async function held(): Promise<ReportCall[]> {
  return (await observer.report(ENGINE)).calls;
}

/** @returns ms until no call matches, and the steps that the engine took meanwhile. */
async function untilGone(matches: (call: ReportCall) => boolean): Promise<{ ms: number; steps: number }> {
  const startMs = performance.now();
  const before = (await observer.report(ENGINE)).counters.steps;
  let steps = before;
  await vi.waitUntil(
    async () => {
      const report = await observer.report(ENGINE);
      steps = report.counters.steps;
      return !report.calls.some(matches);
    },
    { timeout: FREED_MS_MAX, interval: POLL_MS },
  );
  return { ms: Math.round(performance.now() - startMs), steps: steps - before };
}

async function expectEmpty(): Promise<void> {
  await expect.poll(held, SETTLE).toEqual([]);
  await expect.poll(() => observer.queuedCalls(), SETTLE).toBe(0);
}

describe(`a client that disconnects (${trained ? "llama.cpp, default model" : "simulated engine"})`, () => {
  const show = (what: string, freed: { ms: number; steps: number }[]) =>
    console.log(`${what}: freed after ${freed.map(({ ms, steps }) => `${ms} ms (${steps} steps)`).join(", ")}`);

  test("frees its slot while its call is decoded, and the calls beside it go on", async () => {
    const neighbour = open(STORY);
    const neighbourId = await neighbour.started;
    const freed: { ms: number; steps: number }[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const call = open(`${STORY} Part ${round}.`);
      const callId = await call.started;
      call.leave();
      freed.push(await untilGone(({ call: key }) => key === `default/${callId}`));
      expect(await observer.recordedEnd(MODEL, "default", callId)).toBe("cancelled:cancelled");
    }
    show("while it decodes", freed);
    const [beside] = await held();
    expect(beside).toMatchObject({ call: `default/${neighbourId}`, state: "running", attempt: 1 });
    neighbour.leave();
    await expectEmpty();
  });

  test("frees its slot during a long prefill, and the next call runs in it", async () => {
    const freed: { ms: number; steps: number }[] = [];
    const nextMs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const calls = Array.from({ length: BATCH_CALLS_MAX }, (_, index) =>
        open(`${round}.${index} ${LONG_PROMPT}`, { tokensMax: 100 }),
      );
      let prefilled: ReportCall[] = [];
      await vi.waitUntil(async () => {
        prefilled = await held();
        return prefilled.filter(({ state, serviceMs }) => state === "running" && serviceMs > 0).length === calls.length;
      }, SETTLE);
      for (const { promptTokens, completionTokens } of prefilled) {
        expect(promptTokens).toBeGreaterThan(1_000);
        expect(completionTokens, "it has not begun to answer").toBe(0);
      }
      const next = open("Hello", { tokensMax: 20 });
      await vi.waitUntil(async () => (await observer.queuedCalls()) === calls.length + 1, SETTLE);
      const leaving = new Set(prefilled.map(({ call }) => call));
      const startMs = performance.now();
      for (const call of calls) call.leave();
      freed.push(await untilGone(({ call }) => leaving.has(call)));
      await next.started;
      nextMs.push(Math.round(performance.now() - startMs));
      await next.rest;
    }
    show("during a long prefill", freed);
    console.log(`the next call had its first token after ${nextMs.join(" ms, ")} ms`);
    await expectEmpty();
  });

  test("takes its call out of the queue while it waits", async () => {
    const blockers = Array.from({ length: BATCH_CALLS_MAX }, (_, index) => open(`${STORY} Number ${index}.`));
    for (const { started } of blockers) await started;
    const queuedBefore = await observer.queuedCalls();
    const waiting = open("I wait.", { headers: { "Autellix-Program-Id": "who waits" } });
    const view = async () => {
      const response = await fetch(`${stack.urls[1]}/v1/programs/who%20waits`);
      return response.status === 200 ? ((await response.json()) as { calls: object }).calls : undefined;
    };
    await expect.poll(view, SETTLE).toEqual({ waiting: 1, running: 0, ended: 0 });
    expect(await observer.queuedCalls()).toBe(queuedBefore + 1);
    waiting.leave();
    await expect.poll(view, SETTLE).toEqual({ waiting: 0, running: 0, ended: 1 });
    await expect.poll(() => observer.queuedCalls(), SETTLE).toBe(queuedBefore);
    expect((await held()).length).toBe(BATCH_CALLS_MAX);
    for (const blocker of blockers) blocker.leave();
    await expectEmpty();
  });

  test("at any moment leaves nothing behind", async () => {
    const seed = Date.now() % 100_000;
    const delays = Array.from({ length: STORM_CALLS }, (_, index) => ((seed + index * 7_919) % 97) / 97);
    await Promise.all(
      delays.map(async (delay, index) => {
        const call = open(`${STORM_CALLS} stories, number ${index}.`, { frontend: index % 2 });
        setTimeout(() => call.leave(), delay * STORM_MS);
        // What was answered before its client left is as good as what was not.
        await call.rest.catch(() => {});
      }),
    );
    await expect.poll(held, { ...SETTLE, message: `seed ${seed}` }).toEqual([]);
    await expectEmpty();
  });

  test("makes room for the next: all slots can be used again at once", async () => {
    for (let round = 0; round < 3; round++) {
      const calls = Array.from({ length: BATCH_CALLS_MAX }, (_, index) => open(`${STORY} ${round}.${index}`));
      for (const { started } of calls) await started;
      for (const call of calls) call.leave();
    }
    await expectEmpty();
  });
});

describe("a call that is cancelled on purpose", () => {
  test("by DELETE, through either frontend, ends its stream with the reason", async () => {
    for (const url of stack.urls) {
      const call = open(STORY);
      const callId = await call.started;
      const answer = await fetch(`${url}/v1/calls/chatcmpl-${callId}`, { method: "DELETE" });
      expect([answer.status, await answer.json()]).toMatchObject([200, { id: callId, object: "call.cancelled" }]);
      expect(await call.rest).toMatch(/"code":"cancelled".*\n\ndata: \[DONE\]\n\n$/);
      const again = async () => await (await fetch(`${url}/v1/calls/${callId}`, { method: "DELETE" })).json();
      await expect.poll(again, SETTLE).toMatchObject({ id: callId, state: "ended" });
    }
    await expectEmpty();
  });

  test("by the end of its program only when that is asked; else it finishes", async () => {
    for (const cancel of [false, true]) {
      const id = `ends-${cancel}`;
      const call = open("Say hello in one short sentence.", { headers: { "Autellix-Program-Id": id }, tokensMax: 60 });
      await call.started;
      const answer = await fetch(`${stack.urls[1]}/v1/programs/${id}?cancel=${cancel}`, { method: "DELETE" });
      expect([answer.status, await answer.json()]).toMatchObject([200, { id, state: "ended" }]);
      if (cancel) expect(await call.rest).toContain('"code":"cancelled"');
      else expect(await call.rest).toMatch(/"finish_reason":"(stop|length)".*\n\ndata: \[DONE\]\n\n$/);
    }
    await expectEmpty();
  });
});

test.skipIf(process.platform !== "linux")(
  "a frontend that dies takes its calls with it, running and waiting, and no others",
  async () => {
    const beside = open("Say hello in one short sentence.", { tokensMax: 60 });
    const orphans = Array.from({ length: BATCH_CALLS_MAX + 2 }, (_, index) =>
      open(`${STORY} ${index}`, { frontend: 1 }),
    );
    await Promise.race(orphans.map(({ started }) => started));
    const { pid } = stack.processes().find(({ name }) => name === "frontend-1") ?? {};
    if (pid === undefined) throw new Error("no such process");
    process.kill(pid, "SIGKILL");
    const ends = await Promise.allSettled(orphans.map(({ rest }) => rest));
    expect(ends.map(({ status }) => status)).toEqual(orphans.map(() => "rejected"));
    expect(await beside.rest).toMatch(/data: \[DONE\]\n\n$/);
    await expectEmpty();
    // It has been started again.
    await expect
      .poll(async () => (await fetch(`${stack.urls[1]}/readyz`).catch(() => undefined))?.status, SETTLE)
      .toBe(200);
  },
);
