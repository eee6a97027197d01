import type { FileHandle } from "node:fs/promises";
import * as files from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { readCallTrace } from "@autellix/protocol/call-trace";
import { createLogger, parseConfig } from "@autellix/runtime";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { CallTrace, type CallTraceOptions, copyPath } from "../src/call-trace.ts";
import { configSchema } from "../src/config.ts";
import type { EndedFields, TraceFields } from "../src/events.ts";
import { completed, Driver, failed, KEY, only } from "./driver.ts";

vi.mock(import("node:fs/promises"), async (original) => {
  const real = await original();
  return { ...real, open: vi.fn(real.open) };
});

const SECRET = "customer Miller";

let folder: string;
let log: ReturnType<typeof createLogger>;

beforeEach(async () => {
  folder = await files.mkdtemp(join(tmpdir(), "autellix-test-"));
  onTestFinished(() => files.rm(folder, { recursive: true, force: true }));
  log = createLogger({ service: "test", level: "silent" });
  vi.spyOn(log, "warn");
});

function ended(call: string, atMs = performance.now()): [EndedFields, TraceFields] {
  const fields: EndedFields = {
    call,
    tenant: "acme",
    program: SECRET,
    pool: "p",
    model: "m",
    stream: false,
    status: "completed",
    code: undefined,
    promptTokens: 3,
    completionTokens: 4,
    ttftMs: 1,
    durationMs: 2,
  };
  const trace: TraceFields = {
    thread: SECRET,
    parents: ["call-0"],
    arrivedMs: atMs,
    endedMs: atMs + 2,
    accepted: true,
    waitingMs: 0.5,
    serviceMs: 1.5,
    promptTokens: 3,
    cachedTokens: 2,
    completionTokens: 4,
  };
  return [fields, trace];
}

async function opened(fields: Partial<CallTraceOptions> = {}): Promise<CallTrace> {
  const options = { file: join(folder, "trace.jsonl"), bytesMax: 1 << 20, names: "opaque", log, ...fields } as const;
  const trace = await CallTrace.open(options);
  if (!trace) throw new Error("the trace was not opened");
  return trace;
}

const textOf = (name = "trace.jsonl") => files.readFile(join(folder, name), "utf8");
const linesOf = async (name?: string) => (await textOf(name)).split("\n").slice(0, -1);

describe("the end of a call tells its trace", () => {
  test("what was measured, and when it arrived and ended", () => {
    const d = new Driver().accepted({ thread: "t", parents: ["call-0"], promptTokens: 9 });
    d.pass(200);
    d.tokens(0, "Paris");
    d.end(completed("Paris"));
    expect(only(d.effects, "callEnded")[0]?.trace).toEqual({
      thread: "t",
      parents: ["call-0"],
      arrivedMs: 1_000,
      endedMs: 1_200,
      accepted: true,
      waitingMs: 1,
      serviceMs: 2,
      promptTokens: 3,
      cachedTokens: undefined,
      completionTokens: 5,
    });
  });

  test("of a call that failed: what its record says", () => {
    const d = new Driver().accepted();
    const prompt_tokens_details = { cached_tokens: 6 };
    const usage = { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9, prompt_tokens_details };
    d.end({ ...failed("engine_error"), usage, timings: { waiting_ms: 4, service_ms: 5 } });
    expect(only(d.effects, "callEnded")[0]?.trace).toMatchObject({
      promptTokens: 7,
      cachedTokens: 6,
      completionTokens: 2,
      waitingMs: 4,
      serviceMs: 5,
    });
  });

  test("of a client that left: the estimate, and the tokens that came", () => {
    const d = new Driver().accepted({ promptTokens: 9 });
    d.tokens(0, "Par");
    d.tell({ kind: "clientGone", key: KEY });
    expect(only(d.effects, "callEnded")[0]).toMatchObject({
      fields: { status: "cancelled" },
      trace: { promptTokens: 9, completionTokens: 3, waitingMs: undefined, serviceMs: undefined },
    });
  });
});

describe("a call trace", () => {
  test("holds sizes and times, and no name that a client gave", async () => {
    const trace = await opened();
    const at = performance.now();
    trace.record(...ended("call-1", at));
    trace.record(...ended("call-2", at + 10));
    await trace.close();
    const { calls, torn } = await readCallTrace(await linesOf());
    expect(torn).toBe(false);
    const [first, second] = calls;
    expect(first).toMatchObject({
      model: "m",
      status: "completed",
      waitingMs: 0.5,
      serviceMs: 1.5,
      promptTokens: 3,
      cachedTokens: 2,
      completionTokens: 4,
    });
    expect((second?.arrivedAtMs ?? 0) - (first?.arrivedAtMs ?? 0)).toBeCloseTo(10, 2);
    expect((first?.endedAtMs ?? 0) - (first?.arrivedAtMs ?? 0)).toBeCloseTo(2, 2);
    expect([second?.program, second?.thread]).toEqual([first?.program, first?.thread]);
    expect(second?.call).not.toBe(first?.call);
    const text = await textOf();
    for (const told of [SECRET, "acme", "call-0", "call-1"]) expect(text).not.toContain(told);
  });

  test("names calls alike in every frontend, so that parents are found across files", async () => {
    const [one, two] = [await opened(), await opened()];
    one.record(...ended("call-0"));
    two.record(...ended("call-1"));
    await Promise.all([one.close(), two.close()]);
    const lines = [await linesOf(), await linesOf("trace.2.jsonl")];
    const { calls } = await readCallTrace(lines.flat());
    const [first, second] = lines.map(([, line = "{}"]) => JSON.parse(line).call);
    // Written a moment apart by two clocks: either may be first.
    expect(calls).toHaveLength(2);
    expect(calls.find(({ call }) => call === second)?.parents).toEqual([first]);
    expect(new Set(calls.map(({ program }) => program)).size).toBe(1);
  });

  test("keeps names when it is told to", async () => {
    const trace = await opened({ names: "plain" });
    trace.record(...ended("call-1"));
    await trace.close();
    const { calls } = await readCallTrace(await linesOf());
    expect(calls[0]).toMatchObject({ call: "call-1", program: `acme/${SECRET}`, thread: SECRET, parents: ["call-0"] });
  });

  test("never overwrites an earlier one", async () => {
    await files.writeFile(join(folder, "trace.jsonl"), "earlier");
    await (await opened()).close();
    expect(await textOf()).toBe("earlier");
    expect(await linesOf("trace.2.jsonl")).toHaveLength(1);
    expect(copyPath("/a.b/trace", 3)).toBe("/a.b/trace.3");
  });

  test("ends at its size, and says so once", async () => {
    const trace = await opened({ bytesMax: 1_024 });
    for (let i = 0; i < 50; i++) trace.record(...ended(`c${i}`));
    await trace.close();
    const text = await textOf();
    expect(text.length).toBeLessThanOrEqual(1_024);
    expect((await readCallTrace(await linesOf())).calls.length).toBeGreaterThan(0);
    expect(text.endsWith("}\n")).toBe(true);
    expect(log.warn).toHaveBeenCalledTimes(1);
    expect(log.warn).toHaveBeenCalledWith({ traceBytesMax: 1_024 }, "call trace is full: recording ends");
  });

  test("that cannot be made is one line in the log", async () => {
    await files.writeFile(join(folder, "file"), "");
    const options = { file: join(folder, "file", "trace.jsonl"), bytesMax: 1_024, names: "opaque", log } as const;
    expect(await CallTrace.open(options)).toBeUndefined();
    expect(log.warn).toHaveBeenCalledTimes(1);
  });

  test("that cannot be written is one line in the log, and harms no call", async () => {
    const full = new Writable({ write: (_chunk, _encoding, done) => done(new Error("no space left on device")) });
    const handle: Pick<FileHandle, "createWriteStream"> = {
      createWriteStream: () => full as ReturnType<FileHandle["createWriteStream"]>,
    };
    vi.mocked(files.open).mockResolvedValueOnce(handle as FileHandle);
    const trace = await opened();
    for (let i = 0; i < 3; i++) {
      trace.record(...ended(`c${i}`));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await trace.close();
    expect(log.warn).toHaveBeenCalledTimes(1);
  });

  test("is configured by its file, and off without one", () => {
    expect(parseConfig(configSchema, {}).trace).toBeUndefined();
    expect(parseConfig(configSchema, { AUTELLIX_TRACE_FILE: "/t" }).trace).toEqual({ file: "/t", names: "opaque" });
    const env = { AUTELLIX_TRACE_FILE: "/t", AUTELLIX_TRACE_NAMES: "plain", AUTELLIX_TRACE_BYTES_MAX: "4096" };
    expect(parseConfig(configSchema, env)).toMatchObject({
      trace: { names: "plain" },
      limits: { traceBytesMax: 4_096 },
    });
  });
});
