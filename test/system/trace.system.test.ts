/**
 * One trace per program in a real Jaeger: a LATS-like program of 60 calls over three engines and two frontends, with the
 * scheduler killed in the middle, read back through Jaeger's query API.
 */
import { setTimeout as pause } from "node:timers/promises";
import { connect, headers as natsHeaders } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli } from "../../services/cli/test/observe-rig.ts";
import {
  type JaegerSpan,
  type JaegerTrace,
  obtainJaeger,
  type RunningJaeger,
  startJaeger,
} from "../equipment/jaeger.ts";
import { startWiretap, type Wiretap } from "../support/collector.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";
import { CALLS, type LatsRun, runLats, TOOL } from "./lats.ts";
import { covered, median, type SpanTree, tagOf, treeOf } from "./spans.ts";

const PROGRAM = "tree search of the harbour";
const POOL = "tiny";
const MARKER = "zebra-crossing-4711";
const CLIENT_TRACE = "0af7651916cd43dd8448eb211c80319c";
const CLIENT_SPAN = "b7ad6b7169203331";
const KILL_IN_ROUND = 2;
const KILL_AFTER_MS = 150;
/** A trace is whole when nothing came for so long: spans wait up to 5 s for more of them. */
const QUIET_MS = 7_000;
const WHOLE_MS_MAX = 30_000;
const REPORTED_MS = 100;
const SPANS_PER_CALL_MAX = 8;
const SHARE_OFF_MAX = 0.05;

const tool = await obtainJaeger(process.env);
if ("missing" in tool) process.stdout.write(`${tool.missing}\n`);

describe.skipIf("missing" in tool)("the trace of a program", () => {
  let jaeger: RunningJaeger;
  let tap: Wiretap;
  let stack: TestStack;
  let run: LatsRun;
  let trace: JaegerTrace;
  let tree: SpanTree;

  beforeAll(async () => {
    if ("missing" in tool) throw new Error(tool.missing);
    jaeger = await startJaeger(tool.bin, process.env);
    tap = await startWiretap(jaeger.otlpUrl);
    stack = await startTestStack({
      ...{ engines: 3, frontends: 2 },
      args: ["--engine", "simulated", "--preset", "a100-8b", "--otlp", tap.url],
      // Few slots and short quanta, so that calls wait and are preempted.
      env: { AUTELLIX_BATCH_CALLS_MAX: "1", AUTELLIX_LADDER: "fixed", AUTELLIX_LADDER_FIRST_MS: "200" },
    });
    run = await runLats({
      urls: stack.urls,
      program: PROGRAM,
      model: POOL,
      marker: MARKER,
      traceparent: `00-${CLIENT_TRACE}-${CLIENT_SPAN}-01`,
      completionTokens: 40,
      onRound(round) {
        if (round === KILL_IN_ROUND) setTimeout(() => killScheduler(stack), KILL_AFTER_MS);
      },
    });
    const ended = await fetch(`${stack.urls[0]}/v1/programs/${encodeURIComponent(PROGRAM)}`, { method: "DELETE" });
    expect(ended.ok).toBe(true);
    trace = await wholeTrace(jaeger, { "autellix.program": PROGRAM }, [/^chat/, /^POST/, /^program totals$/]);
    tree = treeOf(trace);
  });

  afterAll(async () => {
    await stack?.stop();
    await tap?.stop();
    await jaeger?.stop();
  });

  const named = (name: RegExp): JaegerSpan[] => tree.spans.filter(({ operationName }) => name.test(operationName));
  const calls = () => named(/^chat( |$)/);

  it("is one, connected, and has every call", () => {
    expect(tree.roots.map(({ operationName }) => operationName)).toEqual(["program"]);
    expect(tree.orphans).toEqual([]);
    expect(new Set(tree.spans.map(({ spanID }) => spanID)).size).toBe(tree.spans.length);
    expect(calls()).toHaveLength(CALLS);
    expect(new Set(calls().map((span) => tagOf(span, "autellix.engine"))).size).toBe(3);
    expect(new Set(named(/^POST /).map((span) => tagOf(span, "autellix.frontend"))).size).toBe(2);
    for (const call of calls())
      expect(tree.childrenOf(call).filter(({ operationName: n }) => n.startsWith("POST"))).toHaveLength(1);
  });

  it("adds up to the program's latency: calls and the gaps between them, and in each call its parts", () => {
    const latency = 1_000 * (run.endedAtMs - run.startedAtMs);
    const [totals] = named(/^program totals$/);
    const off = (measured: number, wanted: number) => Math.abs(measured - wanted) / wanted;
    expect(off(totals?.duration ?? 0, latency)).toBeLessThan(SHARE_OFF_MAX);
    const first = Math.min(...calls().map(({ startTime }) => startTime));
    const last = Math.max(...calls().map(({ startTime, duration }) => startTime + duration));
    const gaps = gapsOf(calls());
    expect(covered(calls()) + gaps).toBe(last - first);
    expect(off(covered(calls()) + gaps, latency)).toBeLessThan(SHARE_OFF_MAX);
    for (const call of calls()) {
      const parts = tree.childrenOf(call).filter(({ operationName }) => !operationName.startsWith("POST"));
      expect(off(covered(parts), call.duration)).toBeLessThan(SHARE_OFF_MAX);
      expect(
        off(
          parts.reduce((sum, { duration }) => sum + duration, 0),
          call.duration,
        ),
      ).toBeLessThan(SHARE_OFF_MAX);
    }
  });

  it("shows the kill: a take-over, and calls of two leaders", () => {
    const takeOvers = named(/^take-over$/);
    expect(takeOvers).toHaveLength(1);
    const epochs = [...new Set(calls().map((span) => Number(tagOf(span, "autellix.epoch"))))].sort((a, b) => a - b);
    expect(epochs).toHaveLength(2);
    expect(tagOf(takeOvers[0] as JaegerSpan, "autellix.epoch")).toBe(epochs[1]);
    const lived = calls().filter(({ logs }) =>
      logs.some(({ fields }) => fields.some(({ key, value }) => key === "event" && value === "take-over")),
    );
    const waited = calls().filter(
      ({ startTime, duration }) =>
        startTime < (takeOvers[0]?.startTime ?? 0) && startTime + duration > (takeOvers[0]?.startTime ?? 0),
    );
    expect(lived.length + waited.length).toBeGreaterThan(0);
  });

  it("has few spans per call, and says why calls waited", () => {
    expect(median(calls().map((call) => tree.below(call).length))).toBeLessThanOrEqual(SPANS_PER_CALL_MAX);
    expect(tree.spans.length / CALLS).toBeLessThan(2 * SPANS_PER_CALL_MAX);
    expect(named(/^queue Q\d+$/).length).toBeGreaterThanOrEqual(CALLS);
    const reasons = new Set(calls().map((span) => tagOf(span, "autellix.wait.reason")));
    expect(reasons).toContain("slots");
    for (const name of [/^stay$/, /^prefill$/, /^decode$/]) expect(named(name).length).toBeGreaterThanOrEqual(CALLS);
  });

  it("names the tool of a gap, and links to the client's own trace", () => {
    const tools = named(/^execute_tool /);
    expect(new Set(tools.map(({ operationName }) => operationName))).toEqual(new Set([`execute_tool ${TOOL}`]));
    const links = calls().flatMap(({ references }) => references.filter(({ refType }) => refType === "FOLLOWS_FROM"));
    expect(links).toMatchObject([{ traceID: CLIENT_TRACE, spanID: CLIENT_SPAN }]);
  });

  it("is drawn by `autellix trace`: each call once, with its parts, and the tool between calls", async () => {
    const { code, out } = await cli("trace", PROGRAM, "--jaeger", jaeger.url);
    expect([code, out.split("\n")[0]]).toEqual([
      0,
      expect.stringMatching(new RegExp(`^program ${PROGRAM}: .*, ${CALLS} calls, ${tree.spans.length} spans$`)),
    ]);
    expect(out.match(/^\S+ +[ ·░▒█%]+ \S+ \d+\+40 tokens/gm)).toHaveLength(CALLS);
    expect(out).toMatch(new RegExp(`^tool ${TOOL} +-+ `, "m"));
    for (const part of ["waits", "prefill", "decode"]) expect(out.trimEnd().split("\n").at(-1)).toContain(part);
    const unknown = await cli("trace", "nobody", "--jaeger", jaeger.url);
    expect(unknown).toMatchObject({ code: 1, err: expect.stringContaining('has no trace of program "nobody"') });
  });

  it("holds no word of prompts or answers, in any byte that was sent", () => {
    const sent = tap.bytes().toString("latin1");
    expect(sent).toContain(PROGRAM);
    expect(sent).not.toContain(MARKER);
    const words = run.answers.split(/\s+/).filter((word) => word.length > 0);
    expect(words.length).toBeGreaterThan(CALLS);
    for (let from = 0; from + 3 <= words.length; from += 40)
      expect(sent).not.toContain(words.slice(from, from + 3).join(" "));
  });

  it("stays whole when an agent is killed right after a call that ended on it", async () => {
    const program = "short";
    const body = JSON.stringify({ model: POOL, messages: [{ role: "user", content: MARKER }], max_tokens: 3 });
    const headers = { "content-type": "application/json", "Autellix-Program-Id": program };
    const answer = await fetch(`${stack.urls[0]}/v1/chat/completions`, { method: "POST", headers, body });
    const { autellix } = (await answer.json()) as { autellix: { engine: string } };
    const agent = stack.processes().find(({ name }) => name === `worker-agent-${autellix.engine}`);
    // Before its batch of spans is due. The leader has the report, or will find the record.
    await pause(REPORTED_MS);
    process.kill(agent?.pid ?? Number.NaN, "SIGKILL");
    const whole = treeOf(await wholeTrace(jaeger, { "autellix.program": program }, [/^chat/, /^POST/]));
    expect(whole.orphans).toEqual([]);
    expect(whole.roots.map(({ operationName }) => operationName)).toEqual(["program"]);
  });

  it("is the same for calls that are published without a library", async () => {
    const nc = await connect({ servers: stack.natsUrl });
    try {
      const fields = natsHeaders();
      fields.set("Autellix-Program-Id", "plain");
      fields.set("traceparent", `00-${CLIENT_TRACE}-${CLIENT_SPAN}-01`);
      const body = JSON.stringify({ messages: [{ role: "user", content: MARKER }], max_tokens: 3 });
      await nc.request(`autellix.calls.${POOL}.default.plain-1`, body, { headers: fields, timeout: 5_000 });
      const plain = treeOf(await wholeTrace(jaeger, { "autellix.call": "plain-1" }));
      expect(plain.roots.map(({ operationName }) => operationName)).toEqual(["program"]);
      expect(plain.orphans).toEqual([]);
      expect(plain.spans.find((span) => tagOf(span, "autellix.call") === "plain-1")).toBeDefined();
    } finally {
      await nc.close();
    }
  });
});

function killScheduler(stack: TestStack): void {
  const scheduler = stack.processes().find(({ name }) => name.startsWith("scheduler-"));
  if (scheduler) process.kill(scheduler.pid, "SIGKILL");
}

/** Time between spans that nothing covers, in µs. */
function gapsOf(spans: readonly JaegerSpan[]): number {
  let gaps = 0;
  let until: number | undefined;
  for (const { startTime, duration } of [...spans].sort((a, b) => a.startTime - b.startTime)) {
    if (until !== undefined) gaps += Math.max(0, startTime - until);
    until = Math.max(until ?? 0, startTime + duration);
  }
  return gaps;
}

/** The one trace that has a span with these tags, when it has spans of these names and nothing more comes. */
async function wholeTrace(
  jaeger: RunningJaeger,
  tags: Record<string, string>,
  names: readonly RegExp[] = [/^chat/],
): Promise<JaegerTrace> {
  const until = performance.now() + WHOLE_MS_MAX;
  let spans = 0;
  let since = performance.now();
  for (;;) {
    const traces = await jaeger.find("autellix", tags);
    const [found] = traces;
    const isNamed = (name: RegExp) => found?.spans.some(({ operationName }) => name.test(operationName)) ?? false;
    if (found && names.every(isNamed) && found.spans.length === spans && performance.now() - since > QUIET_MS) {
      expect(traces).toHaveLength(1);
      return found;
    }
    if (found?.spans.length !== spans) since = performance.now();
    spans = found?.spans.length ?? 0;
    if (performance.now() > until) throw new Error(`no whole trace with ${JSON.stringify(tags)}: ${spans} spans`);
    await pause(100);
  }
}
