/** A live run is recorded, and its input log through the core gives the same commands (S6, S12). */
import { execFile } from "node:child_process";
import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type ReplayedInput, replay } from "@autellix/simulation";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { openObserver } from "../support/observer.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";

const ROOT = resolve(import.meta.dirname, "../..");
/** A word that is in every prompt, and in nothing else. */
const PROMPT_WORD = "zyxwvut";
const PROGRAMS = 6;
const CALLS_PER_PROGRAM = 8;

let folder: string;
let log: string;
let answers: string[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "autellix-test-"));
  const args = ["--engine", "simulated", "--input-log", join(folder, "in.jsonl")];
  const stack = await startTestStack({ engines: 2, args, env: { AUTELLIX_BATCH_CALLS_MAX: "4" } });
  try {
    answers = await eventfulRun(stack);
    const observer = await openObserver(stack.natsUrl);
    await vi.waitFor(async () => expect(await observer.queuedCalls()).toBe(0), { timeout: 30_000, interval: 50 });
    await observer.close();
  } finally {
    await stack.stop();
  }
  log = join(folder, (await readdir(folder))[0] ?? "");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Programs side by side, a client that leaves, and an agent that is killed. @returns the answers' texts. */
async function eventfulRun(stack: TestStack): Promise<string[]> {
  const [url = ""] = stack.urls;
  const programs = Array.from({ length: PROGRAMS }, async (_, index) => {
    const texts: string[] = [];
    for (let call = 0; call < CALLS_PER_PROGRAM; call++) {
      const response = await post(url, `program ${index}`, { max_tokens: 4 + 12 * index });
      expect(response.status).toBe(200);
      const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
      texts.push(choices[0]?.message.content ?? "");
    }
    return texts;
  });
  const leaving = new AbortController();
  const left = await post(url, "left", { max_tokens: 4_000, stream: true }, leaving.signal);
  await left.body?.getReader().read();
  leaving.abort();
  const agent = stack.processes().find(({ name }) => name.startsWith("worker-agent"));
  if (agent) process.kill(agent.pid, "SIGKILL");
  return (await Promise.all(programs)).flat();
}

function post(url: string, program: string, body: object, signal?: AbortSignal): Promise<Response> {
  const messages = [{ role: "user", content: `${PROMPT_WORD} ${program}` }];
  return fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "Autellix-Program-Id": program },
    body: JSON.stringify({ model: "tiny", messages, ...body }),
    ...(signal ? { signal } : {}),
  });
}

/** `npm run replay`. */
function replayCommand(...args: string[]): Promise<{ code: number; output: string; errors: string }> {
  const script = join(ROOT, "scripts/start.mjs");
  return new Promise((done) => {
    execFile(process.execPath, [script, "run", "load-tests/src/replay.ts", ...args], (error, output, errors) =>
      done({ code: Number(error?.code ?? 0), output, errors }),
    );
  });
}

describe("the input log of a live run", () => {
  test("gives the same commands, byte for byte", async () => {
    const heard: ReplayedInput[] = [];
    const result = await replay((await open(log)).readLines(), (input) => heard.push(input));
    expect(result.divergence).toBeUndefined();
    expect(result.end).toBe("stopped");
    expect(result.inputs.get("callArrived")).toBe(PROGRAMS * CALLS_PER_PROGRAM + 1);
    // The cancel and the killed agent are in it.
    const kinds = new Set(heard.map(({ input }) => input.kind));
    for (const kind of ["callCancelled", "markerWritten", "planDue", "reported"]) {
      expect([...kinds], "kinds of input").toContain(kind);
    }
    expect(result.inputs.get("engineJoined")).toBe(3);
    expect(result.commands.get("ack")).toBe(PROGRAMS * CALLS_PER_PROGRAM + 1);
  });

  test("holds no text of a prompt or an answer", async () => {
    const text = await readFile(log, "utf8");
    expect(text).toContain("default/program 0");
    expect(text).not.toContain(PROMPT_WORD);
    expect(answers.length).toBe(PROGRAMS * CALLS_PER_PROGRAM);
    for (const answer of answers) {
      expect(answer.length).toBeGreaterThan(0);
      expect(text).not.toContain(answer);
    }
  });
});

describe("npm run replay", () => {
  test("says that the commands are the same, and shows them when asked", async () => {
    const { code, output } = await replayCommand(log);
    expect(output).toContain("same commands: yes");
    expect(code).toBe(0);
    expect((await replayCommand(log, "--commands")).output).toContain('→ {"kind":"sendPlan"');
  });

  test("reads a log that was cut in its last line, and says so", async () => {
    const cut = join(folder, "cut.jsonl");
    const text = await readFile(log, "utf8");
    await writeFile(cut, text.slice(0, -40));
    const { code, output } = await replayCommand(cut);
    expect(output).toMatch(/its last line \(\d+\) is not whole/);
    expect(output).toContain("same commands: yes");
    expect(code).toBe(0);
  });

  test("tells what other policies would have done", async () => {
    const { code, output } = await replayCommand(log, "--policy", "fcfs,plas", "--preset", "a100-8b");
    expect(output).toContain("on 2 × a100-8b with batches of 4 calls");
    for (const policy of ["fcfs", "plas"]) expect(output).toMatch(new RegExp(`^${policy} +${PROGRAMS + 1} `, "m"));
    expect(code).toBe(0);
  });

  test("ends with 1 at other commands, and with 2 at a file that is no log", async () => {
    const changed = join(folder, "changed.jsonl");
    const text = await readFile(log, "utf8");
    await writeFile(changed, text.replace(/"sendPlan [0-9a-f]{16}"/, '"sendPlan 0000000000000000"'));
    const different = await replayCommand(changed);
    expect(different.output).toMatch(/recorded +sendPlan 0000000000000000\nnow +sendPlan [0-9a-f]{16} \{"kind"/);
    expect(different.code).toBe(1);
    await writeFile(changed, text.replace(/\n\{"input"/, '\n{"inp"ut"'));
    const torn = await replayCommand(changed);
    expect(torn.errors).toContain("log_line_invalid: line 2: ");
    expect(torn.code).toBe(2);
    const missing = await replayCommand(join(folder, "none.jsonl"));
    expect(missing).toMatchObject({ code: 2, errors: expect.stringContaining("ENOENT") });
  });
});
