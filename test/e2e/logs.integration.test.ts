/**
 * The logs of a whole system at their most talkative: every line is of the one schema, and none holds a word of a prompt
 * or of an answer (S12), whatever goes wrong.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { publishCall, send, subjects } from "@autellix/protocol";
import { logLineSchema } from "@autellix/runtime";
import { expect, test } from "vitest";
import { openObserver } from "../support/observer.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";

const MODEL = "tiny";
const MARKER = "Xylographica";
/** Of an answer: a piece so long is in no sentence of ours by chance. */
const PIECE_CHARS = 12;
const PROGRAM = "harbour-tour";

interface Answer {
  status: number;
  text: string;
}

test("log lines have one schema and none of a call's text", async () => {
  const stack = await startTestStack({
    engines: 2,
    frontends: 2,
    dashboard: true,
    metrics: true,
    args: ["--log-level", "trace"],
  });
  const answers: string[] = [];
  let lines: { file: string; line: string }[];
  try {
    for (const stream of [false, true]) answers.push((await post(stack, call({ stream }))).text);
    answers.push(...(await interrupted(stack)));
    await refused(stack);
    await garbage(stack);
    await pause(1_000); // lines of what was sent last
    lines = await linesOf(stack);
  } finally {
    await stack.stop();
  }

  expect(new Set(lines.map(({ file }) => file)).size).toBe(6);
  expect(lines.length).toBeGreaterThan(50);
  const faults = lines.flatMap(({ file, line }) => {
    const parsed = logLineSchema.safeParse(JSON.parse(line));
    return parsed.success
      ? []
      : [`${file}: ${parsed.error.issues.map(({ path, message }) => `${path}: ${message}`)}: ${line}`];
  });
  expect(faults).toEqual([]);

  const text = lines.map(({ line }) => line).join("\n");
  expect(text).toContain(PROGRAM);
  expect(lines.filter(({ line }) => line.toLowerCase().includes(MARKER.toLowerCase()))).toEqual([]);
  const generated = answers.flatMap(contentsOf);
  expect(generated.join("").length).toBeGreaterThan(100);
  for (const piece of generated.flatMap(pieces)) expect(text.includes(JSON.stringify(piece).slice(1, -1))).toBe(false);
});

function call(over: object = {}): object {
  const content = `Tell me of ${MARKER}, and of ${MARKER} again.`;
  return { model: MODEL, messages: [{ role: "user", content }], max_tokens: 40, ...over };
}

async function post(stack: TestStack, body: object | string, fields: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(`${stack.urls[0]}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "Autellix-Program-Id": PROGRAM, ...fields },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: response.status, text: await response.text() };
}

/** An agent and the scheduler die under streams, a client goes away, a call expires. */
async function interrupted(stack: TestStack): Promise<string[]> {
  const streams = Array.from({ length: 6 }, () => post(stack, call({ stream: true, max_tokens: 400 })));
  await pause(500);
  for (const name of [`worker-agent-${MODEL}-0`, `scheduler-${MODEL}-0`]) {
    const pid = stack.processes().find((process) => process.name === name)?.pid;
    expect(pid).toBeDefined();
    if (pid !== undefined) process.kill(pid, "SIGKILL");
    await pause(300);
  }
  const ended = await Promise.all(streams);
  expect(ended.map(({ status }) => status)).toEqual(ended.map(() => 200));
  const gone = new AbortController();
  const response = await fetch(`${stack.urls[1]}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(call({ stream: true, max_tokens: 1_000 })),
    signal: gone.signal,
  });
  await response.body?.getReader().read();
  gone.abort();
  // A random model may end its answer before its time is over.
  const long = call({ max_tokens: 1_500, temperature: 1 });
  const late = async () => (await post(stack, long, { "Autellix-Deadline-Ms": "1" })).status;
  await expect.poll(late, { timeout: 60_000 }).toBe(504);
  return ended.map(({ text }) => text);
}

/** What frontends and engines refuse: each message of theirs could quote what it refuses. */
async function refused(stack: TestStack): Promise<void> {
  const long = `${MARKER} `.repeat(3_000);
  const schema = {
    type: "json_schema",
    json_schema: { name: MARKER, schema: { type: "object", $ref: `#/${MARKER}` } },
  };
  const bodies = [
    `{"model": "${MODEL}", "messages": [{"role": "user", "content": "${MARKER}`,
    call({ temperature: MARKER }),
    call({ messages: [{ role: MARKER, content: MARKER }] }),
    call({ messages: [{ role: "user", content: long }] }),
    call({ logit_bias: { [MARKER]: 1 } }),
    call({ response_format: schema }),
    call({ messages: [{ role: "tool", tool_call_id: MARKER, content: MARKER }] }),
  ];
  for (const body of bodies) expect((await post(stack, body)).status).toBe(400);
}

/** Messages that no service of ours sends, with text in every place. */
async function garbage(stack: TestStack): Promise<void> {
  const observer = await openObserver(stack.natsUrl);
  const { bus } = observer;
  const bytes = (text: string) => Buffer.from(text);
  const address = (callId: string) => ({ pool: MODEL, tenant: "default", callId });
  await publishCall(bus, { address: address("bad-json"), body: bytes(`{"messages": "${MARKER}`), fields: {} });
  await publishCall(bus, { address: address("bad-body"), body: bytes(MARKER), fields: {} });
  await publishCall(bus, { address: address("bad-shape"), body: bytes(`{"messages": {"${MARKER}": 1}}`), fields: {} });
  for (const subject of [
    subjects.plan(`${MODEL}-0`),
    subjects.report(MODEL),
    subjects.status(MODEL),
    subjects.beat(MODEL),
  ]) {
    bus.nc.publish(subject, bytes(`{"${MARKER}": "${MARKER}"`));
    send(bus, subject, { kind: MARKER, [MARKER]: MARKER });
  }
  bus.nc.publish(subjects.control(MODEL, "default"), bytes(`{"op": "${MARKER}"}`));
  await bus.nc.flush();
  await observer.close();
}

async function linesOf({ dataDir }: TestStack): Promise<{ file: string; line: string }[]> {
  const folder = join(dataDir, "logs");
  const files = (await readdir(folder)).filter((file) => !file.startsWith("nats-server"));
  const all = files.map(async (file) =>
    (await readFile(join(folder, file), "utf8"))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => ({ file, line })),
  );
  return (await Promise.all(all)).flat();
}

/** Of a whole answer or a stream. */
function contentsOf(text: string): string[] {
  const bodies = text.startsWith("data:") ? text.split("\n\n").map((event) => event.replace(/^data: /, "")) : [text];
  const parsed = bodies.filter((body) => body.startsWith("{")).map((body) => JSON.parse(body));
  return [parsed.map(({ choices }) => choices?.[0]?.delta?.content ?? choices?.[0]?.message?.content ?? "").join("")];
}

function pieces(text: string): string[] {
  const found: string[] = [];
  for (let i = 0; i + PIECE_CHARS <= text.length; i += PIECE_CHARS) found.push(text.slice(i, i + PIECE_CHARS));
  return found.filter((piece) => piece.trim().length > PIECE_CHARS / 2);
}
