/**
 * Whatever dies by kill -9 while calls run: each call ends once, nobody sees a gap, a repetition or a broken
 * character, and greedy text is that of an undisturbed run (S1, S2).
 */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { queueDrained } from "../support/queue.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";

const CALLS = 20;
/** Kills of the random storm; their order comes from the seed. */
const STORM_KILLS = 6;
const SETTLE_MS_MAX = 30_000;

interface Answer {
  text: string;
  finish: string | null;
  attempts: number;
  /** Chunks had come when the kill happened. */
  wasRunning: boolean;
}

let stack: TestStack;
let clients: OpenAI[];
let undisturbed: string[];

beforeAll(async () => {
  stack = await startTestStack({ engines: 2, frontends: 2, schedulers: 2 });
  // No retries: an SDK that tried again would hide a lost call.
  clients = stack.urls.map(
    (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0, timeout: 110_000 }),
  );
  undisturbed = (await Promise.all(Array.from({ length: CALLS }, (_, i) => ask(i)))).map((answer) => answer.text);
});

afterAll(async () => {
  await stack?.stop();
});

/** @param onChunk called at each chunk with text; what it returns says whether the kill has happened. */
async function ask(index: number, onChunk: () => boolean = () => false): Promise<Answer> {
  const answer: Answer = { text: "", finish: null, attempts: 0, wasRunning: false };
  const client = clients[index % clients.length] as OpenAI;
  const chunks = await client.chat.completions.create({
    model: "tiny",
    messages: [{ role: "user", content: `Call ${index}: tell me something long.` }],
    temperature: 0,
    stream: true,
  });
  for await (const chunk of chunks) {
    const text = chunk.choices[0]?.delta?.content ?? "";
    answer.text += text;
    if (text !== "" && !onChunk()) answer.wasRunning = true;
    if (chunk.choices[0]?.finish_reason) {
      expect(answer.finish, "one end").toBeNull();
      answer.finish = chunk.choices[0].finish_reason;
    }
    const { autellix } = chunk as { autellix?: { attempts: number } };
    if (autellix) answer.attempts = autellix.attempts;
  }
  return answer;
}

/** Starts all calls, and kills when several of them have begun to answer. */
async function killWhileRunning(
  pattern: RegExp,
  signal: NodeJS.Signals = "SIGKILL",
): Promise<{ answers: Answer[]; killed: number }> {
  let chunks = 0;
  let killed = 0;
  const onChunk = () => {
    if (++chunks === 2 * CALLS) killed = kill(pattern, signal);
    return killed > 0;
  };
  const answers = await Promise.all(Array.from({ length: CALLS }, (_, i) => ask(i, onChunk)));
  return { answers, killed };
}

/** @returns how many processes were killed. */
function kill(pattern: RegExp, signal: NodeJS.Signals = "SIGKILL"): number {
  const found = stack.processes().filter(({ name }) => pattern.test(name));
  for (const { pid } of found) process.kill(pid, signal);
  return found.length;
}

function expectUndisturbed(answers: Answer[]): void {
  expect(answers.map(({ text }) => text)).toEqual(undisturbed);
  for (const { text, finish } of answers) {
    expect(finish).toMatch(/^(stop|length)$/);
    expect(text).not.toContain("\uFFFD");
  }
}

test("the leading scheduler is killed: its standby goes on, and no running call starts over", async () => {
  const { answers, killed } = await killWhileRunning(/^scheduler-.*-0$/);
  expect(killed).toBe(1);
  expectUndisturbed(answers);
  for (const answer of answers) if (answer.wasRunning) expect(answer.attempts).toBe(1);
  await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
});

test("all schedulers are killed: running calls finish without one, the others when one is back", async () => {
  const { answers, killed } = await killWhileRunning(/^scheduler-/);
  expect(killed).toBe(2);
  expectUndisturbed(answers);
  for (const answer of answers) if (answer.wasRunning) expect(answer.attempts).toBe(1);
  await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
});

test("an agent is killed and is back at once: its calls go on where they were", async () => {
  const { answers, killed } = await killWhileRunning(/^worker-agent-.*-0$/);
  expect(killed).toBe(1);
  expectUndisturbed(answers);
  expect(answers.some(({ attempts }) => attempts > 1)).toBe(true);
  await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
});

test("an agent is told to stop, and is back: what it had begun ends there or goes on elsewhere", async () => {
  const { answers, killed } = await killWhileRunning(/^worker-agent-.*-0$/, "SIGTERM");
  expect(killed).toBe(1);
  expectUndisturbed(answers);
  // What had not begun there cost no attempt more than one: it was given away once.
  for (const { attempts } of answers) expect(attempts).toBeLessThanOrEqual(2);
  await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
});

test("all agents are killed at once", async () => {
  const { answers, killed } = await killWhileRunning(/^worker-agent-/);
  expect(killed).toBe(2);
  expectUndisturbed(answers);
  await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
});

test("nats-server is killed: tokens that were lost on the way are filled in", async () => {
  const { answers, killed } = await killWhileRunning(/^nats-server$/);
  expect(killed).toBeGreaterThan(0);
  expectUndisturbed(answers);
  await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
});

test("one process after the other is killed at random while calls keep coming", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const patterns = [/^scheduler-/, /^worker-agent-.*-0$/, /^worker-agent-.*-1$/, /^nats-server$/];
  let state = seed;
  const draw = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return patterns[state % patterns.length] as RegExp;
  };
  for (let round = 0; round < STORM_KILLS; round++) {
    const pattern = draw();
    const { answers } = await killWhileRunning(pattern);
    expect(
      answers.map(({ text }) => text),
      `seed ${seed}, round ${round}, ${pattern}`,
    ).toEqual(undisturbed);
  }
  await queueDrained(stack.natsUrl, SETTLE_MS_MAX);
});
