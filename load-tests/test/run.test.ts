import { afterEach, describe, expect, test } from "vitest";
import { type ApiServer, type ApiServerOptions, startApiServer } from "../../libs/client/test/support/api-server.ts";
import { runClosedLoop } from "../src/closed-loop.ts";
import { runOpenLoop } from "../src/run.ts";
import { summarise } from "../src/stats.ts";
import type { CallSpec, ProgramSpec } from "../src/workload.ts";

const servers: ApiServer[] = [];

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function serve(options?: ApiServerOptions) {
  const server = await startApiServer(options);
  servers.push(server);
  return server;
}

function call(more: Partial<CallSpec> = {}): CallSpec {
  return { promptTokens: 10, completionTokens: 5, gapMs: 0, thread: "main", parents: [], ...more };
}

function programs(count: number, calls: CallSpec[]): ProgramSpec[] {
  return Array.from({ length: count }, () => ({ kind: "k", arrivalMs: 0, calls }));
}

describe("the open loop", () => {
  test("runs each program's graph of calls and reports times, tokens and waiting", async () => {
    const server = await serve();
    const graph = [
      call({ prompt: "root" }),
      call({ thread: "a", parents: [0], prompt: "left" }),
      call({ thread: "b", parents: [0], prompt: "right" }),
      call({ parents: [1, 2], prompt: "join" }),
    ];
    const run = await runOpenLoop({ name: "t", url: server.url }, programs(1, graph), { endPrograms: true });
    const [program] = run.programs;
    expect(program).toMatchObject({ kind: "k", status: "finished" });
    expect(server.calls.map((seen) => seen.body.messages.at(-1)?.content)).toEqual([
      "root",
      expect.stringMatching(/left|right/),
      expect.stringMatching(/left|right/),
      "join",
    ]);
    expect(server.calls.at(-1)).toMatchObject({ program: program?.id, thread: "main" });
    expect(server.calls.at(-1)?.parents).toHaveLength(2);
    expect(server.ended).toEqual([{ program: program?.id, cancel: false }]);
    expect(program?.calls[0]).toMatchObject({
      complete: true,
      httpStatus: 200,
      callId: "call-1",
      completionTokens: 3,
      waitingMs: 5,
      serviceMs: 7,
      engine: "e1",
      attempts: 1,
    });
    expect(program?.calls[0]?.firstTokenMs).toBeGreaterThan(0);
  });

  test("carries the conversation of the first parent on, and drops it where it would not fit", async () => {
    const server = await serve({ answer: () => "fine" });
    const chain = [call({ prompt: "one" }), call({ prompt: "two", parents: [0] })];
    const target = { name: "t", url: server.url };
    await runOpenLoop(target, programs(1, chain));
    expect(server.calls[1]?.body.messages.map((message) => message.content)).toEqual(["one", "fine", "two"]);
    await runOpenLoop(target, programs(1, chain), { contextTokensMax: 1 });
    expect(server.calls[3]?.body.messages.map((message) => message.content)).toEqual(["two"]);
  });

  test("does not wait for answers before it starts the next program", async () => {
    let waiting = 0;
    let release = () => {};
    const all = new Promise<void>((resolve) => {
      release = resolve;
    });
    const server = await serve({
      // Answers come only once every program has its call at the server.
      answer: async () => {
        if (++waiting === 20) release();
        await all;
        return "late";
      },
    });
    const run = await runOpenLoop({ name: "t", url: server.url }, programs(20, [call()]));
    expect(summarise(run).programs.finished).toBe(20);
    expect(server.sockets()).toBeGreaterThanOrEqual(20);
  });

  test("keeps its connections for the calls that follow", async () => {
    const server = await serve();
    const chain = Array.from({ length: 10 }, (_, index) => call({ parents: index === 0 ? [] : [index - 1] }));
    await runOpenLoop({ name: "t", url: server.url }, programs(1, chain));
    expect(server.calls).toHaveLength(10);
    expect(server.sockets()).toBeLessThanOrEqual(2);
  });

  test("tells refusals from failures, and stops a program at its first", async () => {
    const server = await serve({
      refuse: ({ body }) => {
        if (body.messages[0]?.content === "full") return { status: 429, retryAfter: 3 };
        return body.messages[0]?.content === "bad" ? { status: 500 } : undefined;
      },
    });
    const specs = ["full", "bad", "good"].flatMap((prompt) =>
      programs(1, [call({ prompt }), call({ prompt: "next", parents: [0] })]),
    );
    const run = await runOpenLoop({ name: "t", url: server.url }, specs);
    const statuses = run.programs.map((program) => program.status);
    expect(statuses).toEqual(["refused", "failed", "finished"]);
    expect(run.programs[0]?.calls).toHaveLength(1);
    expect(run.programs[0]?.calls[0]).toMatchObject({ httpStatus: 429, retryAfterS: 3, error: "queue_full" });
    const summary = summarise(run);
    expect(summary.calls).toMatchObject({ ended: 4, completed: 2, refused: 1, failed: 1 });
    expect(summary.errors).toEqual({ queue_full: 2 });
  });

  test("counts what it could not start and what did not end", async () => {
    const server = await serve({ answer: () => new Promise<string>(() => {}) });
    const run = await runOpenLoop({ name: "t", url: server.url }, programs(5, [call()]), {
      programsInFlightMax: 3,
      drainMsMax: 50,
    });
    expect(summarise(run).programs).toMatchObject({ offered: 5, unfinished: 3, skipped: 2, finished: 0 });
  });

  test("reads whole answers too", async () => {
    const server = await serve();
    const run = await runOpenLoop({ name: "t", url: server.url }, programs(1, [call({ prompt: "x" })]), {
      stream: false,
    });
    expect(server.calls[0]?.body.stream).toBe(false);
    expect(run.programs[0]?.calls[0]).toMatchObject({ complete: true, completionTokens: 3, chunks: 1 });
  });

  test("says when nobody is there", async () => {
    const server = await serve();
    await server.close();
    servers.length = 0;
    await expect(runOpenLoop({ name: "t", url: server.url }, programs(1, [call()]))).rejects.toThrow(
      "cannot be reached",
    );
  });
});

test("the closed loop keeps so many callers busy and counts what they got", async () => {
  const server = await serve();
  const body = { messages: [{ role: "user" as const, content: "x" }], max_tokens: 5, stream: false };
  const result = await runClosedLoop({ url: server.url, callers: 4, durationMs: 500, body });
  expect(result.completed).toBeGreaterThan(0);
  expect(result.failed).toBe(0);
  expect(server.sockets()).toBeLessThanOrEqual(5);
});
