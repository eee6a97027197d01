import { presets } from "@autellix/engines/cost";
import {
  CALL_TRACE_VERSION,
  formatTraceLine,
  opaqueName,
  readCallTrace,
  type TracedCall,
  TraceError,
} from "@autellix/protocol/call-trace";
import { describe, expect, it } from "vitest";
import { type ProgramSpec, promptTokensOf } from "../src/program.ts";
import { simulate } from "../src/simulate.ts";
import { systems } from "../src/systems.ts";
import { type Loop, programsOfTrace } from "../src/trace.ts";
import { workloads } from "../src/workloads/index.ts";

const play = (programs: readonly ProgramSpec[]) =>
  simulate({ programs, engines: 1, preset: presets["a100-8b"], system: systems.plas }).programs;

const header = (startedAtMs = 0) =>
  formatTraceLine({ trace: "autellix-calls", version: CALL_TRACE_VERSION, startedAtMs });

function call(fields: Partial<TracedCall> & Pick<TracedCall, "call" | "arrivedAtMs" | "endedAtMs">): TracedCall {
  return { program: "p", model: "m", status: "completed", promptTokens: 10, completionTokens: 5, ...fields };
}

const lines = (...parts: string[]) => parts.join("").split("\n").slice(0, -1);

async function errorOf(text: string[]): Promise<TraceError> {
  const error = await readCallTrace(text).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(TraceError);
  return error as TraceError;
}

describe("a call trace", () => {
  it("gives back what was written, by arrival", async () => {
    const a = call({
      call: "a",
      arrivedAtMs: 7,
      endedAtMs: 9,
      thread: "t",
      parents: ["z"],
      waitingMs: 1,
      serviceMs: 1,
    });
    const b = call({ call: "b", arrivedAtMs: 5, endedAtMs: 12, cachedTokens: 4 });
    expect(await readCallTrace(lines(header(), formatTraceLine(a), formatTraceLine(b)))).toEqual({
      calls: [b, a],
      torn: false,
    });
  });

  it("of several frontends is their files one after another, each by its own clock", async () => {
    const one = [header(10_000), formatTraceLine(call({ call: "a", arrivedAtMs: 500, endedAtMs: 600 }))];
    const two = [header(9_000), formatTraceLine(call({ call: "b", arrivedAtMs: 100, endedAtMs: 200 }))];
    const { calls } = await readCallTrace(lines(...one, ...two));
    expect(calls.map(({ call: name, arrivedAtMs, endedAtMs }) => [name, arrivedAtMs, endedAtMs])).toEqual([
      ["b", 100, 200],
      ["a", 1_500, 1_600],
    ]);
  });

  it("may end in a torn line, and so may each of several files; there is one nowhere else", async () => {
    const a = formatTraceLine(call({ call: "a", arrivedAtMs: 0, endedAtMs: 1 }));
    expect(await readCallTrace([...lines(header(), a), '{"call":"b","arr'])).toMatchObject({
      calls: [{ call: "a" }],
      torn: true,
    });
    expect(await readCallTrace([...lines(header()), '{"call":"b","arr', ...lines(header(), a)])).toMatchObject({
      calls: [{ call: "a" }],
      torn: true,
    });
    expect(await errorOf([...lines(header()), '{"call":"b","arr', ...lines(a)])).toMatchObject({
      code: "trace_line_invalid",
      line: 2,
    });
  });

  it.each([
    ["trace_line_invalid", "completionTokens", { completionTokens: -1 }],
    ["trace_line_invalid", "endedAtMs: must not be before arrivedAtMs", { endedAtMs: 0 }],
    ["trace_line_invalid", "endedAtMs: Too big", { endedAtMs: 1e300 }],
    ["trace_line_invalid", "status", { status: "fine" }],
    ["trace_line_invalid", 'Unrecognized key: "prompt"', { prompt: "text" }],
    ["trace_call_repeated", "call a is there already", { call: "a" }],
  ])("is refused with %s and its line: %s", async (code, text, fields) => {
    const a = call({ call: "a", arrivedAtMs: 1, endedAtMs: 2 });
    const bad = `${JSON.stringify({ ...a, call: "b", ...fields })}\n`;
    const error = await errorOf(lines(header(), formatTraceLine(a), bad));
    expect(error).toMatchObject({ code, line: 3 });
    expect(error.message).toContain("line 3: ");
    expect(error.message).toContain(text);
  });

  it("is refused when it is something else, or of a later format", async () => {
    expect(await errorOf([])).toMatchObject({ code: "not_a_trace", line: 1 });
    expect(await errorOf(["hello"])).toMatchObject({ code: "not_a_trace", line: 1 });
    expect(await errorOf(["{}"])).toMatchObject({ code: "not_a_trace", line: 1 });
    expect(await errorOf([header().replace(":1,", ":2,")])).toMatchObject({ code: "trace_version_unknown", line: 1 });
  });

  it("names programs by tenant and id, and neither can be read from the name", () => {
    expect(opaqueName("a", "b")).toMatch(/^[0-9a-f]{16}$/);
    expect(opaqueName("a", "b")).toBe(opaqueName("a", "b"));
    expect(new Set([opaqueName("a", "b"), opaqueName("ab"), opaqueName("a,b"), opaqueName("b", "a")]).size).toBe(4);
  });
});

/** What a live run of programs on an engine without a queue would have recorded: each call takes 1 ms a token. */
function recorded(programs: ReturnType<typeof workloads.bfcl>, tells: "parents" | "threads" | "nothing"): TracedCall[] {
  return programs.flatMap((program) => {
    const prompts = promptTokensOf(program);
    const ends: number[] = [];
    return program.calls.map((spec, index) => {
      const released = spec.parents.reduce((max, parent) => Math.max(max, ends[parent] ?? 0), program.arrivesAtMs);
      const arrivedAtMs = released + spec.gapMs;
      const endedAtMs = arrivedAtMs + spec.decodeTokens;
      ends.push(endedAtMs);
      return call({
        call: `${program.id}/${index}`,
        program: program.id,
        arrivedAtMs,
        endedAtMs,
        promptTokens: prompts[index] ?? 0,
        completionTokens: spec.decodeTokens,
        ...(tells === "nothing" || spec.thread === undefined ? {} : { thread: spec.thread }),
        ...(tells === "parents" ? { parents: spec.parents.map((parent) => `${program.id}/${parent}`) } : {}),
      });
    });
  });
}

const byArrival = (calls: TracedCall[]) => calls.sort((a, b) => a.arrivedAtMs - b.arrivedAtMs);

describe("programs of a trace", () => {
  it("are the chains that were recorded: parents, interrupts, contexts, sizes", () => {
    const before = workloads.bfcl({ programs: 40, ratePerS: 1, seed: 1 });
    const { programs } = programsOfTrace(byArrival(recorded(before, "nothing")));
    const start = before[0]?.arrivesAtMs ?? 0;
    for (const [index, program] of programs.entries()) {
      const original = before[index];
      expect(program.id).toBe(original?.id);
      expect(program.arrivesAtMs).toBeCloseTo((original?.arrivesAtMs ?? 0) - start, 6);
      // The shared prompt is part of the first prompt: a trace does not tell it from the rest.
      expect(promptTokensOf(program)).toEqual(original && promptTokensOf(original));
      expect(
        program.calls.map((spec) => [spec.parents, spec.extends, Math.round(spec.gapMs), spec.decodeTokens]),
      ).toEqual(original?.calls.map((spec) => [spec.parents, spec.extends, Math.round(spec.gapMs), spec.decodeTokens]));
    }
  });

  it.each(["parents", "threads", "nothing"] as const)("fork and join as they did when clients tell %s", (tells) => {
    const fork = [
      call({ call: "plan", arrivedAtMs: 0, endedAtMs: 10, thread: "main" }),
      call({ call: "a1", arrivedAtMs: 12, endedAtMs: 20, thread: "a", parents: ["plan"] }),
      call({ call: "b1", arrivedAtMs: 12, endedAtMs: 30, thread: "b", parents: ["plan"] }),
      // The second of thread a goes on from the first: 10 + 5 tokens, and one more.
      call({ call: "a2", arrivedAtMs: 25, endedAtMs: 40, thread: "a", parents: ["a1"], promptTokens: 16 }),
      call({ call: "sum", arrivedAtMs: 45, endedAtMs: 50, thread: "main", parents: ["a2", "b1"], promptTokens: 30 }),
    ].map(({ thread = "", parents = [], ...rest }) => ({
      ...rest,
      ...(tells === "nothing" ? {} : { thread }),
      ...(tells === "parents" ? { parents } : {}),
    }));
    const [program] = programsOfTrace(fork).programs;
    // Without parents the thread's own last call is one of them; it ended before the others, so it changes nothing.
    const joined = { parents: [2, 3], threads: [0, 2, 3], nothing: [2, 3] }[tells];
    expect(program?.calls.map(({ parents }) => parents)).toEqual([[], [0], [0], [1], joined]);
    expect(program?.calls.map(({ gapMs }) => gapMs)).toEqual([0, 2, 2, 5, 5]);
    expect(program?.calls[3]).toMatchObject({ extends: 1, newPromptTokens: 1 });
    expect(new Set(program?.calls.slice(1, 3).map(({ thread }) => thread)).size).toBe(2);
  });

  it("do not join independent threads that have names", () => {
    const two = [
      call({ call: "a1", arrivedAtMs: 0, endedAtMs: 10, thread: "a" }),
      call({ call: "b1", arrivedAtMs: 1, endedAtMs: 11, thread: "b" }),
      call({ call: "b2", arrivedAtMs: 20, endedAtMs: 25, thread: "b" }),
      call({ call: "a2", arrivedAtMs: 30, endedAtMs: 35, thread: "a" }),
    ];
    const [program] = programsOfTrace(two).programs;
    expect(program?.calls.map(({ parents }) => parents)).toEqual([[], [], [1], [0]]);
    expect(program?.calls.map(({ gapMs }) => gapMs)).toEqual([0, 1, 9, 20]);
  });

  it("begin a prompt anew when it is shorter than the context before", () => {
    const [program] = programsOfTrace([
      call({ call: "a", arrivedAtMs: 0, endedAtMs: 1, promptTokens: 100, completionTokens: 20 }),
      call({ call: "b", arrivedAtMs: 2, endedAtMs: 3, promptTokens: 119 }),
      call({ call: "c", arrivedAtMs: 4, endedAtMs: 5, promptTokens: 124 }),
    ]).programs;
    expect(program?.calls.map((spec) => [spec.extends, spec.newPromptTokens])).toEqual([
      [undefined, 100],
      [undefined, 119],
      [1, 1],
    ]);
  });

  it("leave out calls that cost nothing, and say how many", () => {
    const { programs, skippedCalls } = programsOfTrace([
      call({ call: "a", arrivedAtMs: 0, endedAtMs: 1, completionTokens: 0, status: "expired" }),
      call({ call: "b", arrivedAtMs: 2, endedAtMs: 3, completionTokens: 1, status: "cancelled" }),
    ]);
    expect(skippedCalls).toBe(1);
    expect(programs.map(({ calls, arrivesAtMs }) => [calls.length, arrivesAtMs])).toEqual([[1, 0]]);
  });

  it("in an open loop have each call at its own time", () => {
    const before = workloads.lats({ programs: 5, ratePerS: 0.1, seed: 3 });
    const calls = byArrival(recorded(before, "parents"));
    const start = calls[0]?.arrivedAtMs ?? 0;
    const { programs } = programsOfTrace(calls, "open");
    const arrivals = programs.flatMap(({ arrivesAtMs, calls: specs }) =>
      specs.map(({ arrivesMs = Number.NaN }) => arrivesAtMs + arrivesMs),
    );
    expect(arrivals.sort((a, b) => a - b).map(Math.round)).toEqual(
      calls.map(({ arrivedAtMs }) => Math.round(arrivedAtMs - start)),
    );
  });

  /** A chain of three that was recorded on a fast engine, and takes three times as long on this one. */
  const chain = [0, 1_100, 2_200].map((arrivedAtMs, index) =>
    call({
      call: `${index}`,
      arrivedAtMs,
      endedAtMs: arrivedAtMs + 100,
      promptTokens: 10 + 50 * index,
      completionTokens: 40,
    }),
  );

  it("in an open loop respond for as long as any of their calls is under way", () => {
    const programs = (loop: Loop, calls = chain) => programsOfTrace(calls, loop).programs;
    const [closed] = play(programs("closed"));
    const [open] = play(programs("open"));
    expect(closed?.responseMs).toBeGreaterThan(3 * 100);
    // No call reaches into the next one's time here, so nothing differs.
    expect(open?.responseMs).toBeCloseTo(closed?.responseMs ?? Number.NaN, 6);
    expect(open?.aloneMs).toBe(closed?.aloneMs);
    expect((open?.pathServiceMs ?? 0) + (open?.pathWaitingMs ?? 0)).toBeCloseTo(open?.responseMs ?? Number.NaN, 6);

    // The same within 220 ms: calls wait for none, overlap, and their common time counts once.
    const dense = chain.map((one) => ({ ...one, arrivedAtMs: one.arrivedAtMs / 10, endedAtMs: one.endedAtMs / 10 }));
    const [overlapping] = play(programs("open", dense));
    const { arrivedAtMs = 0, endedAtMs = 0, responseMs = 0, serviceMs = 0 } = overlapping ?? {};
    expect(serviceMs).toBeGreaterThan(responseMs);
    expect(responseMs).toBeCloseTo(endedAtMs - arrivedAtMs, 6);
    expect((overlapping?.pathServiceMs ?? 0) + (overlapping?.pathWaitingMs ?? 0)).toBeCloseTo(responseMs, 6);
  });
});
