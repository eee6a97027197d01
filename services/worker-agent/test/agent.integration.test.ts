import { openSimulatedEngine, type Preset, presets, type SimulatedOptions } from "@autellix/engines";
import {
  ask,
  BODY_BYTES_MAX,
  type ChatChunk,
  type ChatCompletion,
  decode,
  encode,
  getBody,
  headers,
  RESULT_INLINE_BYTES_MAX,
  reportSchema,
  subjects,
  writeOutcomeRecord,
} from "@autellix/protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { chat, eventually, gap, openStage, outcomeOf, POOL, type Stage, TENANT } from "./support/stage.ts";

let nats: TestNats;
beforeAll(async () => {
  nats = await startTestNats();
});
afterAll(() => nats?.stop());

let stage: Stage;
beforeEach(async () => {
  stage = await openStage(nats.url);
});
afterEach(() => stage.close());

let serial = 0;
/** Calls and engines of one test meet no others on the server that all share. */
const fresh = (name: string) => `${name}-${++serial}`;

const zero = (options: Partial<SimulatedOptions> = {}) =>
  openSimulatedEngine({ models: ["sim"], preset: "zero", ...options });
/** Slow enough that something can happen in the middle of a call. */
const slow: Preset = { ...presets.zero, cost: { stepMs: 5, prefillTokenMs: 0, contextTokenMs: 0 } };

function contentOf(response: unknown): string | null | undefined {
  return (response as ChatCompletion | undefined)?.choices[0].message.content;
}

/** The text that this call has on an engine of its own. */
async function undisturbed(body: Uint8Array): Promise<string | null | undefined> {
  const [engine, id] = [fresh("e"), fresh("c")];
  await stage.agent(engine, zero());
  await stage.scheduler.plan(engine, { run: [await stage.call(id, body)] });
  return contentOf(outcomeOf(await stage.scheduler.ended(id)).response);
}

describe("a call through an agent", () => {
  it("streams its tokens to the frontend; the end comes after the record, and both say the same", async () => {
    const [engine, id] = [fresh("e"), fresh("c")];
    await stage.agent(engine, zero());
    await stage.scheduler.plan(engine, { run: [await stage.call(id, chat("hello", { max_tokens: 40 }))] });
    const end = await stage.frontend.ended(`${TENANT}/${id}`);
    expect(end).toMatchObject({ status: "completed", stored: true });
    const record = await stage.scheduler.ended(id);
    const outcome = outcomeOf(record);
    expect(outcome.usage).toMatchObject({ completion_tokens: 40 });
    expect(contentOf(outcome.response)).toBe(stage.frontend.text(`${TENANT}/${id}`));
    expect(Buffer.from(end.body ?? [])).toEqual(Buffer.from(record.body));
    const report = await stage.scheduler.report(engine, (r) => r.finished.length > 0);
    expect(report.finished).toMatchObject([{ call: `${TENANT}/${id}`, status: "completed", found: false }]);
    expect(report.counters.tokens).toBe(40);
  });

  it("decodes the calls of a batch together, in the plan's order and as many as it says", async () => {
    const engine = fresh("e");
    await stage.agent(engine, zero());
    const calls = await Promise.all(
      Array.from({ length: 8 }, (_, i) => stage.call(fresh("c"), chat(`number ${i}`, { max_tokens: 200 }))),
    );
    await stage.scheduler.plan(engine, { run: calls.slice(0, 4), reserve: calls.slice(4, 6), keep: calls.slice(6) });
    for (const { call } of calls) expect(await stage.frontend.ended(call)).toMatchObject({ status: "completed" });
    const report = await stage.scheduler.report(engine, (r) => r.calls.length === 0 && r.finished.length === 8);
    expect(report.counters.batchMax).toBe(4);
  });

  it("answers a plain JSON publisher on its inbox: chunks, then one last message with the end", async () => {
    const [engine, id] = [fresh("e"), fresh("c")];
    await stage.agent(engine, zero());
    const inbox = `_INBOX.${fresh("reader")}`;
    const chunks: ChatChunk[] = [];
    let end: { status: string; chunk: ChatChunk } | undefined;
    stage.bus.nc.subscribe(inbox, {
      callback: (_error, message) => {
        const chunk = decode(message.data) as ChatChunk;
        expect(message.data[0]).toBe(0x7b);
        const status = message.headers?.get(headers.end) ?? "";
        if (status === "") chunks.push(chunk);
        else end = { status, chunk };
      },
    });
    await stage.scheduler.plan(engine, { run: [await stage.call(id, chat("hello"), { reply: inbox })] });
    const last = await eventually(() => end);
    expect(last).toMatchObject({ status: "completed", chunk: { choices: [{ finish_reason: "stop" }] } });
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    const record = await stage.scheduler.ended(id);
    expect(record.body[0]).toBe(0x7b);
    expect(contentOf(outcomeOf(record).response)).toBe(text);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.role)).toEqual([
      "assistant",
      ...chunks.slice(1).map(() => undefined),
    ]);
  });

  it("is not run again when it comes a second time, to another agent", async () => {
    const [first, second, id] = [fresh("e"), fresh("e"), fresh("c")];
    const entry = await stage.call(id, chat("hello"));
    await stage.agent(first, zero());
    await stage.scheduler.plan(first, { run: [entry] });
    const record = await stage.scheduler.ended(id);
    const engine = zero();
    await stage.agent(second, engine);
    await stage.scheduler.plan(second, { run: [entry] });
    const report = await stage.scheduler.report(second, (r) => r.finished.length > 0);
    expect(report.finished).toMatchObject([{ status: "completed", found: true }]);
    expect(engine.counters().steps).toBe(0);
    expect((await stage.scheduler.ended(id)).seq).toBe(record.seq);
  });

  it("ends as failed when its body is no call, and its neighbours are not disturbed", async () => {
    const engine = fresh("e");
    await stage.agent(engine, zero());
    const bodies: [Uint8Array, string][] = [
      [Buffer.from("{broken"), "invalid_json"],
      [Buffer.from([0xc1, 0xfe, 0x80]), "invalid_json"],
      [encode("text"), "invalid_json"],
      [encode(["text"]), "invalid_request"],
      [chat("x", { max_tokens: -5 }), "invalid_request"],
      [chat("x", { model: "unknown" }), "model_not_found"],
      [chat("x ".repeat(100_000)), "context_length_exceeded"],
    ];
    const good = await stage.call(fresh("c"), chat("fine"));
    const bad = await Promise.all(bodies.map(([body]) => stage.call(fresh("c"), body)));
    await stage.scheduler.plan(engine, { run: [...bad, good] });
    for (const [index, { call }] of bad.entries()) {
      const record = await stage.scheduler.ended(call.slice(TENANT.length + 1));
      expect(record.head).toMatchObject({ status: "failed", code: bodies[index]?.[1] });
      expect((await stage.frontend.ended(call)).status).toBe("failed");
    }
    expect((await stage.frontend.ended(good.call)).status).toBe("completed");
  });

  it("may have a body above the payload limit, and a result above the limit of a record", async () => {
    const [engine, large, long] = [fresh("e"), fresh("c"), fresh("c")];
    await stage.agent(engine, zero({ contextTokensMax: 4_000_000 }));
    const run = [
      await stage.call(large, chat("word ".repeat(BODY_BYTES_MAX / 8), { max_tokens: 5 })),
      await stage.call(long, chat("talk", { max_tokens: 120_000 }), { reply: `_INBOX.${fresh("nobody")}` }),
    ];
    await stage.scheduler.plan(engine, { run });
    expect((await stage.frontend.ended(`${TENANT}/${large}`)).status).toBe("completed");
    const record = await stage.scheduler.ended(long);
    expect(record.body.length).toBeLessThan(1_000);
    const bytes = await getBody(stage.bus, String(outcomeOf(record).response_object));
    expect(bytes.length).toBeGreaterThan(RESULT_INLINE_BYTES_MAX);
    expect((decode(bytes) as ChatCompletion).usage.completion_tokens).toBe(120_000);
  });
});

describe("a cancel", () => {
  it("in the middle of a prompt frees the engine after at most one more step", async () => {
    const [engine, id] = [fresh("e"), fresh("c")];
    const prompt: Preset = { ...slow, cost: { ...slow.cost, stepMs: 100 }, sliceTokens: 16 };
    const simulated = zero({ preset: prompt });
    await stage.agent(engine, simulated);
    const entry = await stage.call(id, chat("word ".repeat(4_000)));
    await stage.scheduler.plan(engine, { run: [entry] });
    await eventually(() => (simulated.counters().contextTokens > 0 ? true : undefined));
    const steps = simulated.counters().steps;
    await stage.scheduler.plan(engine, { run: [entry], cancel: [{ call: entry.call, attempt: 1, cause: "client" }] });
    expect((await stage.frontend.ended(entry.call)).status).toBe("cancelled");
    await eventually(() => (simulated.counters().residentCalls === 0 ? true : undefined));
    // The step that ran when the cancel came, and one that ended while it travelled: 200 ms of engine time.
    expect(simulated.counters().steps - steps).toBeLessThanOrEqual(2);
    expect(simulated.counters()).toMatchObject({ contextTokens: 0, tokens: 0 });
  });
});

describe("a call that moves", () => {
  const body = chat("a long story", { max_tokens: 120 });

  it("goes on where its frontend is, and the whole text is that of a run without the move", async () => {
    const [first, second, id] = [fresh("e"), fresh("e"), fresh("c")];
    const address = { pool: POOL, tenant: TENANT, callId: id };
    await stage.agent(first, zero({ preset: slow }));
    await stage.agent(second, zero());
    const entry = await stage.call(id, body);
    await stage.scheduler.plan(first, { run: [entry] });
    await eventually(() => (stage.frontend.tokens(entry.call) > 10 ? true : undefined));
    await stage.scheduler.plan(first, {});
    await stage.scheduler.report(first, (r) => r.planNumber === 2 && r.calls.length === 0);
    const head = { kind: "marker", attempt: 2, epoch: 1, engine: second, cause: "engine_lost", crashes: 0 } as const;
    const marker = await writeOutcomeRecord(stage.bus, address, head, new Uint8Array(), 0);
    if (marker.kind !== "stored") throw new Error(marker.kind);
    const dispatch = entry.dispatch && { ...entry.dispatch, fence: marker.seq };
    await stage.scheduler.plan(second, { run: [{ ...entry, attempt: 2, ...(dispatch ? { dispatch } : {}) }] });
    expect((await stage.frontend.ended(entry.call)).status).toBe("completed");
    const whole = await undisturbed(body);
    expect(stage.frontend.text(entry.call)).toBe(whole);
    const record = await stage.scheduler.ended(id);
    expect(record.head).toMatchObject({ attempt: 2, engine: second });
    expect(outcomeOf(record).usage).toMatchObject({ completion_tokens: 120 });
    expect(contentOf(outcomeOf(record).response)).toBe(whole);
  });

  it("keeps the result of a superseded attempt, which is stored when the leader gives the new fence", async () => {
    const [engine, id] = [fresh("e"), fresh("c")];
    const address = { pool: POOL, tenant: TENANT, callId: id };
    await stage.agent(engine, zero({ preset: slow }));
    const entry = await stage.call(id, body);
    await stage.scheduler.plan(engine, { run: [entry] });
    await eventually(() => stage.frontend.items.get(entry.call));
    const head = { kind: "marker", attempt: 2, epoch: 1, engine: "e9", cause: "engine_lost", crashes: 0 } as const;
    const marker = await writeOutcomeRecord(stage.bus, address, head, new Uint8Array(), 0);
    if (marker.kind !== "stored") throw new Error(marker.kind);
    await stage.scheduler.report(engine, (r) => r.fenced.some(({ call }) => call === entry.call));
    expect((await stage.scheduler.outcome(id))?.head.kind).toBe("marker");
    await stage.scheduler.plan(engine, { fences: [{ call: entry.call, attempt: 1, fence: marker.seq }] });
    expect((await stage.frontend.ended(entry.call)).stored).toBe(true);
    expect((await stage.scheduler.ended(id)).head).toMatchObject({ attempt: 1, status: "completed" });
  });
});

describe("an agent", () => {
  it("runs on without plans, and fills its slots from what it holds", async () => {
    const engine = fresh("e");
    await stage.agent(engine, zero());
    const calls = await Promise.all(
      Array.from({ length: 6 }, () => stage.call(fresh("c"), chat("x", { max_tokens: 20 }))),
    );
    await stage.scheduler.plan(engine, { run: calls.slice(0, 1), reserve: calls.slice(1, 3), keep: calls.slice(3) });
    for (const { call } of calls) expect((await stage.frontend.ended(call)).status).toBe("completed");
  });

  it("adopts the epoch of the leader that asks it for a report, and refuses plans of lower ones", async () => {
    const [engine, id] = [fresh("e"), fresh("c")];
    await stage.agent(engine, zero());
    await stage.scheduler.report(engine, () => true);
    const answer = await ask(stage.bus, subjects.ask(engine), { kind: "report", epoch: 7 }, reportSchema);
    expect(answer).toMatchObject({ engine, info: { kind: "simulated", models: ["sim"] } });
    const entry = await stage.call(id, chat("x"));
    await stage.scheduler.plan(engine, { run: [entry] });
    stage.scheduler.epoch = 7;
    await stage.scheduler.plan(engine, {});
    await stage.scheduler.report(engine, (r) => r.planEpoch === 7);
    expect(stage.scheduler.reports(engine).every((r) => r.calls.length === 0)).toBe(true);
  });

  it("fills gaps of a running call", async () => {
    const [engine, id] = [fresh("e"), fresh("c")];
    await stage.agent(engine, zero({ preset: slow }));
    const entry = await stage.call(id, chat("x", { max_tokens: 2_000 }));
    await stage.scheduler.plan(engine, { run: [entry] });
    await eventually(() => ((stage.frontend.items.get(entry.call)?.length ?? 0) > 5 ? true : undefined));
    const seen = (stage.frontend.items.get(entry.call) ?? []).slice(2, 5);
    const answer = await gap(stage.bus, engine, entry.call, seen[0]?.index ?? 0);
    if (answer?.state !== "known") throw new Error("unknown");
    expect(answer.text.startsWith(seen.map((item) => item.text).join(""))).toBe(true);
    const ids = seen.flatMap((item) => item.ids ?? []);
    expect(ids.length).toBeGreaterThan(2);
    expect(answer.ids?.slice(0, ids.length)).toEqual(ids);
    expect(await gap(stage.bus, engine, `${TENANT}/unknown`, 0)).toEqual({ state: "unknown" });
  });

  it("stores the results of an outage when nats-server is back", async () => {
    const engine = fresh("e");
    const simulated = zero({ preset: slow });
    await stage.agent(engine, simulated);
    const calls = await Promise.all(
      Array.from({ length: 4 }, () => stage.call(fresh("c"), chat("x", { max_tokens: 60 }))),
    );
    await stage.scheduler.plan(engine, { run: calls });
    await eventually(() => (simulated.counters().tokens > 20 ? true : undefined));
    await nats.kill9();
    await eventually(() => (simulated.counters().tokens === 240 ? true : undefined));
    await nats.restart();
    for (const { call } of calls) {
      const record = await stage.scheduler.ended(call.slice(TENANT.length + 1));
      expect(outcomeOf(record).usage).toMatchObject({ completion_tokens: 60 });
      expect((await stage.frontend.ended(call)).status).toBe("completed");
    }
  });

  it("whose engine breaks says so: its process must end and start anew", async () => {
    const engine = fresh("e");
    const broken = zero();
    broken.step = () => Promise.reject(new Error("the engine broke"));
    const { failure } = await stage.agent(engine, broken);
    await stage.scheduler.plan(engine, { run: [await stage.call(fresh("c"), chat("x"))] });
    await expect(failure).resolves.toMatchObject({ message: "the engine broke" });
  });

  it("whose engine hangs says so, too", async () => {
    const engine = fresh("e");
    const hanging = zero();
    hanging.step = () => new Promise(() => {});
    const { failure } = await stage.agent(engine, hanging, { stepWatchdogMs: 200 });
    await stage.scheduler.plan(engine, { run: [await stage.call(fresh("c"), chat("x"))] });
    await expect(failure).resolves.toMatchObject({ message: "the engine has not answered for 200 ms" });
  });

  it("that is told to stop says goodbye and hands back what it has not finished", async () => {
    const [engine, id] = [fresh("e"), fresh("c")];
    const agent = await stage.agent(engine, zero({ preset: slow }));
    const entry = await stage.call(id, chat("x", { max_tokens: 20_000 }));
    await stage.scheduler.plan(engine, { run: [entry] });
    await eventually(() => stage.frontend.items.get(entry.call));
    await agent.stop();
    await eventually(() =>
      stage.scheduler.messages.find((m) => m.kind === "exit" && m.incarnation === agent.incarnation),
    );
    expect(stage.scheduler.reports(engine).at(-1)?.calls).toMatchObject([{ call: entry.call }]);
    expect(await stage.scheduler.outcome(id)).toBeUndefined();
  });
});
