/** Many programs at once on a real engine: everything ends, sequences are decoded together, the accounts add up. */
import type { ProgramView, Report } from "@autellix/protocol";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Observer, openObserver } from "../support/observer.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";

const POOL = "tiny";
const ENGINE = "tiny-0";
const PROGRAMS = 8;
const CALLS_PER_PROGRAM = 4;
/** Timings are written in thousandths of a ms; each of a program's calls may be rounded once. */
const ROUNDING_MS = CALLS_PER_PROGRAM * 0.001;

interface Ended {
  program: string;
  finish: string | null | undefined;
  tokens: number;
  serviceMs: number;
  waitingMs: number;
}

let stack: TestStack;
let observer: Observer;
let before: Report;
let after: Report;
let ended: Ended[];

beforeAll(async () => {
  stack = await startTestStack();
  observer = await openObserver(stack.natsUrl);
  before = await observer.report(ENGINE);
  const openai = new OpenAI({ baseURL: `${stack.urls[0]}/v1`, apiKey: "any", maxRetries: 0 });
  const calls = Array.from({ length: PROGRAMS * CALLS_PER_PROGRAM }, (_, index) => ({
    program: `program ${index % PROGRAMS}`,
    text: `Tell me ${index} things.`,
  }));
  ended = await Promise.all(calls.map(({ program, text }) => streamToEnd(openai, program, text)));
  after = await observer.report(ENGINE);
});

afterAll(async () => {
  await observer?.close();
  await stack?.stop();
});

async function streamToEnd(openai: OpenAI, program: string, text: string): Promise<Ended> {
  const stream = await openai.chat.completions.create(
    {
      model: POOL,
      messages: [{ role: "user", content: text }],
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    },
    { headers: { "Autellix-Program-Id": program } },
  );
  const call: Ended = { program, finish: undefined, tokens: 0, serviceMs: 0, waitingMs: 0 };
  for await (const chunk of stream) {
    call.finish = chunk.choices[0]?.finish_reason ?? call.finish;
    call.tokens = chunk.usage?.completion_tokens ?? call.tokens;
    const { autellix } = chunk as { autellix?: { service_ms: number; waiting_ms: number } };
    call.serviceMs = autellix?.service_ms ?? call.serviceMs;
    call.waitingMs = autellix?.waiting_ms ?? call.waitingMs;
  }
  return call;
}

test("all 32 concurrent streams of 8 programs finish", () => {
  expect(ended).toHaveLength(PROGRAMS * CALLS_PER_PROGRAM);
  for (const { finish, tokens } of ended) {
    expect(finish).toMatch(/^(stop|length)$/);
    expect(tokens).toBeGreaterThan(0);
  }
});

test("sequences are decoded together, by the engine's own counters", () => {
  const steps = after.counters.steps - before.counters.steps;
  const stepCalls = after.counters.stepCalls - before.counters.stepCalls;
  const tokens = after.counters.tokens - before.counters.tokens;
  expect(after.counters.batchMax).toBeGreaterThan(1);
  // On average, not only once.
  expect(stepCalls / steps).toBeGreaterThan(1.5);
  // Every token was generated once, and none that no client got.
  expect(tokens).toBe(ended.reduce((sum, call) => sum + call.tokens, 0));
});

test("each program's service and waiting are the sums over its calls", async () => {
  for (let index = 0; index < PROGRAMS; index++) {
    const program = `program ${index}`;
    const own = ended.filter((call) => call.program === program);
    const sum = (value: (call: Ended) => number) => own.reduce((total, call) => total + value(call), 0);
    const view = await settledView(program);
    expect(view.calls).toEqual({ waiting: 0, running: 0, ended: CALLS_PER_PROGRAM });
    expect(Math.abs(view.service_ms - sum((call) => call.serviceMs))).toBeLessThan(ROUNDING_MS);
    expect(Math.abs(view.waiting_ms - sum((call) => call.waitingMs))).toBeLessThan(ROUNDING_MS);
    expect(view.service_ms).toBeGreaterThan(0);
  }
});

test("nothing stays in the queue or on the engine", async () => {
  await expect.poll(() => observer.queuedCalls()).toBe(0);
  expect((await observer.report(ENGINE)).calls).toEqual([]);
});

/** A client hears of the end from the agent, a moment before the scheduler has read it. */
async function settledView(program: string): Promise<ProgramView> {
  const read = async () => {
    const response = await fetch(`${stack.urls[0]}/v1/programs/${encodeURIComponent(program)}`);
    return (await response.json()) as ProgramView;
  };
  await expect.poll(async () => (await read()).calls.ended).toBe(CALLS_PER_PROGRAM);
  return await read();
}
