import { doublingLadder } from "@autellix/core";
import {
  headers,
  PoolPicture,
  type Report,
  type ReportCall,
  type ViewAsk,
  type ViewChanges,
  type ViewPage,
  WATCH_MS,
} from "@autellix/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Event, MachineConfig } from "../src/events.ts";
import { ended, held, info, MachineBench, of, report } from "./bench.ts";

function ask(bench: MachineBench, question: ViewAsk): ViewPage | undefined {
  return of(bench.react({ kind: "view", ask: question, token: 1 }), "answerView")[0]?.page;
}

/** All pages of a kind. */
function pages(bench: MachineBench, what: "programs" | "calls" | "engines", max: number): ViewPage[] {
  const read: ViewPage[] = [];
  let from: string | undefined;
  do {
    const page = ask(bench, { op: "page", what, max, ...(from === undefined ? {} : { from }) });
    if (!page) throw new Error("no page");
    read.push(page);
    from = page.next;
  } while (from !== undefined);
  return read;
}

function snapshot(bench: MachineBench, max = 3): PoolPicture {
  const picture = new PoolPicture();
  const kinds = ["engines", "programs", "calls"] as const;
  for (const [index, page] of kinds.flatMap((what) => pages(bench, what, max)).entries()) {
    if (index === 0) picture.number = page.number;
    picture.addPage(page);
  }
  return picture;
}

/** The next changes, 100 ms later. */
function due(bench: MachineBench): ViewChanges[] {
  const place = bench.later.findIndex(({ event }) => event.kind === "viewDue");
  if (place < 0) return [];
  bench.later.splice(place, 1);
  bench.at += 100;
  return of(bench.react({ kind: "viewDue" }), "sendChanges").map(({ changes }) => changes);
}

/** A picture without what moves with the clock alone. */
function still(picture: PoolPicture): unknown {
  return {
    programs: [...picture.programs.values()].sort((a, b) => (a.program < b.program ? -1 : 1)),
    calls: [...picture.calls.values()].map((c) => ({ ...c, waitingMs: 0 })).sort((a, b) => (a.call < b.call ? -1 : 1)),
    engines: [...picture.engines.values()].sort((a, b) => (a.engine < b.engine ? -1 : 1)),
  };
}

/** An agent that holds what its last plan names. */
class Agent {
  readonly #bench: MachineBench;
  readonly #engine: string;
  #number = 0;
  #incarnation = 0;
  #calls = new Map<string, ReportCall>();

  constructor(bench: MachineBench, engine: string) {
    this.#bench = bench;
    this.#engine = engine;
  }

  #report(over: Partial<Report>): Report {
    return report(this.#engine, ++this.#number, { incarnation: `i${this.#incarnation}`, ...over });
  }

  join(): void {
    this.#incarnation++;
    this.#calls.clear();
    this.#bench.agent(this.#report({ info, planEpoch: 7 }));
  }

  exit(): void {
    this.#bench.agent({ kind: "exit", pool: "p", engine: this.#engine, incarnation: `i${this.#incarnation}` });
    this.#calls.clear();
  }

  /** One window: the batch is served, one call ends when `ends` says so. */
  work(ends: boolean): void {
    const plan = of(this.#bench.effects, "sendPlan").findLast(({ plan: p }) => p.engine === this.#engine)?.plan;
    if (!plan || plan.incarnation !== `i${this.#incarnation}`) return;
    const named = [...plan.run, ...plan.reserve, ...plan.keep];
    const old = this.#calls;
    this.#calls = new Map();
    for (const { call, attempt } of named) {
      const known = old.get(call) ?? { serviceMs: 0, completionTokens: 0 };
      const runs = plan.run.some((other) => other.call === call) ? 1 : 0;
      const completionTokens = known.completionTokens + runs;
      this.#calls.set(call, {
        ...{ call, attempt, state: runs ? "running" : "parked", serviceMs: known.serviceMs + 400 * runs },
        ...{ contextTokens: 20 + completionTokens, promptTokens: 20, completionTokens },
      });
    }
    const first = plan.run[0]?.call;
    const finished =
      ends && first !== undefined ? [{ ...ended(first.split("/")[1] ?? ""), report: this.#number + 1 }] : [];
    if (finished.length > 0 && first !== undefined) this.#calls.delete(first);
    const calls = [...this.#calls.values()];
    this.#bench.agent(this.#report({ planEpoch: 7, planNumber: plan.number, calls, finished }));
  }
}

describe("a watcher's picture", () => {
  const op = fc.oneof(
    fc.record({ op: fc.constant("call" as const), program: fc.integer({ min: 0, max: 5 }) }),
    fc.record({ op: fc.constant("work" as const), engine: fc.integer({ min: 0, max: 1 }), ends: fc.boolean() }),
    fc.record({ op: fc.constant("cancel" as const), call: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ op: fc.constant("pass" as const), ms: fc.constantFrom(250, 1_000, 3_000, 20_000) }),
    fc.record({ op: fc.constant("engine" as const), engine: fc.integer({ min: 0, max: 1 }), joins: fc.boolean() }),
    fc.record({ op: fc.constant("program" as const), program: fc.integer({ min: 0, max: 5 }), ends: fc.boolean() }),
    fc.record({ op: fc.constant("due" as const) }),
  );

  it("that follows the changes is what a fresh snapshot shows, whatever happens", () => {
    fc.assert(
      fc.property(fc.array(op, { minLength: 5, maxLength: 80 }), (ops) => {
        const bench = MachineBench.leading({ beta: 1, ladder: doublingLadder(15, 4), programIdleMaxMs: 15_000 });
        const agents = [new Agent(bench, "e0"), new Agent(bench, "e1")];
        for (const agent of agents) agent.join();
        ask(bench, { op: "watch" });
        const picture = snapshot(bench);
        let calls = 0;
        const follow = () => {
          for (const changes of due(bench)) expect(picture.apply(changes)).toBe(true);
        };
        for (const step of ops) {
          if (step.op === "call") {
            const named = step.program === 0 ? {} : { [headers.program]: `prog-${step.program}` };
            bench.confirm(bench.call(`c${++calls}`, named), 100 + calls);
          } else if (step.op === "work") agents[step.engine]?.work(step.ends);
          else if (step.op === "cancel") {
            const control = { op: "call.cancel", call_id: `c${step.call}` } as const;
            bench.confirm(bench.react({ kind: "control", tenant: "default", control, token: 1 }), 500);
          } else if (step.op === "pass") bench.confirm(bench.pass(step.ms), 600);
          else if (step.op === "engine") {
            if (step.joins) agents[step.engine]?.join();
            else agents[step.engine]?.exit();
          } else if (step.op === "program") {
            const kind = step.ends ? "program.end" : "program.start";
            const control = { op: kind, program_id: `prog-${step.program}` } as const;
            bench.react({ kind: "control", tenant: "default", control, token: 1 });
          } else follow();
          // Renewed, as a watcher does.
          ask(bench, { op: "watch" });
        }
        for (let i = 0; i < 5; i++) follow();
        expect(still(picture)).toEqual(still(snapshot(bench)));
        const waiting = (picture.pool?.waitingByLevel ?? []).reduce((sum, count) => sum + count, 0);
        const queued = [...picture.calls.values()].filter((c) => c.state !== "ending" && c.state !== "running");
        expect(waiting).toBeGreaterThanOrEqual(0);
        expect(waiting).toBeLessThanOrEqual(queued.length + picture.calls.size);
      }),
      { numRuns: 150 },
    );
  });

  it("shows a call on its way: waiting, starting, running, gone; and its program's sums", () => {
    const bench = MachineBench.leading();
    bench.call("c", { [headers.program]: "prog", [headers.thread]: "t" });
    ask(bench, { op: "watch" });
    const picture = snapshot(bench);
    const stateNow = () => {
      for (const changes of due(bench)) picture.apply(changes);
      return picture.calls.get("default/c")?.state;
    };
    expect(stateNow()).toBe("waiting");
    expect(picture.pool?.waitingByLevel).toEqual([1, 0, 0, 0]);
    const agent = new Agent(bench, "e1");
    agent.join();
    expect(stateNow()).toBe("starting");
    expect(picture.pool?.waitingByLevel).toEqual([0, 0, 0, 0]);
    agent.work(false);
    expect(stateNow()).toBe("running");
    expect(picture.calls.get("default/c")).toMatchObject({
      engine: "e1",
      thread: "t",
      serviceMs: 400,
      promptTokens: 20,
    });
    expect(picture.engines.get("e1")).toMatchObject({ run: ["default/c"], info: { kind: "simulated" } });
    agent.work(true);
    expect(stateNow()).toBeUndefined();
    expect(picture.programs.get("default/prog")).toMatchObject({ calls: { waiting: 0, running: 0, ended: 1 } });
    expect(picture.pool?.totals.ended).toBe(1);
  });
});

describe("a call's end", () => {
  const facts = { serviceMs: 40, waitingMs: 12, promptTokens: 31, completionTokens: 9 };

  it("is told once with its facts, also of a call that came and went between two messages", () => {
    const bench = MachineBench.leading();
    bench.join("e1");
    ask(bench, { op: "watch" });
    const arrivedAtMs = bench.at;
    bench.call("c", { [headers.program]: "prog", [headers.thread]: "t" });
    bench.at += 60;
    bench.agent(report("e1", 2, { planEpoch: 7, finished: [{ ...ended("c", facts), report: 2 }] }));
    const told = [...due(bench), ...due(bench)];
    expect(told.flatMap(({ calls }) => calls)).toEqual([]);
    expect(told.flatMap((changes) => changes.ended ?? [])).toEqual([
      {
        ...{ call: "default/c", program: "prog", thread: "t", engine: "e1", level: 0, attempt: 1, status: "completed" },
        ...{ arrivedAtMs, endedAtMs: arrivedAtMs + 60, queuedMs: 0, ...facts },
      },
    ]);
    expect(told.flatMap(({ gone }) => gone.calls)).toEqual(["default/c"]);
  });

  it("that the scheduler writes itself is told, too, without tokens that nobody counted", () => {
    const bench = MachineBench.leading();
    ask(bench, { op: "watch" });
    bench.call("c");
    bench.at += 30;
    const control = { op: "call.cancel", call_id: "c" } as const;
    bench.confirm(bench.react({ kind: "control", tenant: "default", control, token: 1 }), 500);
    const [told] = due(bench).flatMap((changes) => changes.ended ?? []);
    expect(told).toMatchObject({ call: "default/c", status: "cancelled", waitingMs: 30, queuedMs: 30, serviceMs: 0 });
    expect(told).not.toHaveProperty("promptTokens");
  });

  it("is never told after the call is gone, however many end at once", () => {
    const bench = MachineBench.leading({ queuedCallsMax: 10_000 });
    bench.join("e1");
    ask(bench, { op: "watch" });
    const ids = Array.from({ length: 1_000 }, (_, i) => `c${i}`);
    for (const id of ids) bench.call(id);
    bench.agent(report("e1", 2, { finished: ids.toReversed().map((id) => ({ ...ended(id), report: 2 })) }));
    const told = new Map<string, number>();
    for (let i = 0; i < 20; i++) {
      for (const changes of due(bench)) {
        expect(Buffer.byteLength(JSON.stringify(changes))).toBeLessThan(512 * 1024);
        for (const { call } of changes.ended ?? []) told.set(call, (told.get(call) ?? 0) + 1);
        for (const call of changes.gone.calls) expect(told.get(call)).toBe(1);
      }
    }
    expect(told.size).toBe(1_000);
  });
});

it("shows a call that its agent holds and has not begun as one that waits", () => {
  const bench = MachineBench.leading();
  bench.call("c", { [headers.program]: "prog" });
  ask(bench, { op: "watch" });
  const picture = snapshot(bench);
  bench.join("e1");
  const stateOnceTold = (number: number, state: ReportCall["state"], serviceMs: number) => {
    bench.agent(report("e1", number, { planEpoch: 7, calls: [{ ...held("c"), state, serviceMs }] }));
    for (const changes of due(bench)) picture.apply(changes);
    return picture.calls.get("default/c")?.state;
  };
  expect(stateOnceTold(2, "evicted", 0)).toBe("waiting");
  expect(stateOnceTold(3, "running", 400)).toBe("running");
  expect(stateOnceTold(4, "parked", 400)).toBe("parked");
});

describe("a promotion", () => {
  it("is a change: a call that waited for long is seen in Q1 again", () => {
    // Without an engine there are no places for promoted calls but where there is no limit.
    const bench = MachineBench.leading({
      beta: 1,
      promotedShare: Number.POSITIVE_INFINITY,
      ladder: doublingLadder(15, 4),
    });
    const agent = new Agent(bench, "e1");
    agent.join();
    for (const id of ["a", "b"]) {
      bench.call(id, { [headers.program]: "prog" });
      agent.work(true);
    }
    agent.exit();
    bench.call("c", { [headers.program]: "prog" });
    ask(bench, { op: "watch" });
    const picture = snapshot(bench);
    expect(picture.calls.get("default/c")?.level).toBe(1);
    bench.pass(2_000);
    for (const changes of due(bench)) expect(picture.apply(changes)).toBe(true);
    expect(picture.calls.get("default/c")?.level).toBe(0);
    expect(picture.pool).toMatchObject({ waitingByLevel: [1, 0, 0, 0], totals: { promotions: 1 } });
  });
});

describe("a watch", () => {
  it("that nobody renews ends, and nothing is sent or kept any more", () => {
    const bench = MachineBench.leading();
    ask(bench, { op: "watch" });
    let messages = 0;
    for (let ms = 0; ms < WATCH_MS - 100; ms += 100) messages += due(bench).length;
    // Nothing changed: one message a second says that the leader lives.
    expect(messages).toBeGreaterThan(10);
    expect(messages).toBeLessThan(16);
    for (let i = 0; i < 3; i++) due(bench);
    expect(bench.later.filter(({ event }: { event: Event }) => event.kind === "viewDue")).toEqual([]);
    bench.call("c");
    expect(of(bench.effects, "sendChanges").at(-1)?.changes.calls).toEqual([]);
  });

  it("that begins again leaves a gap in the numbers: what happened meanwhile is in nobody's picture", () => {
    const bench = MachineBench.leading();
    ask(bench, { op: "watch" });
    const picture = snapshot(bench);
    bench.at += WATCH_MS;
    due(bench);
    bench.call("c");
    ask(bench, { op: "watch" });
    bench.call("d");
    const [changes] = due(bench);
    expect(changes && picture.apply(changes)).toBe(false);
  });

  it("is answered only by a leader that leads", () => {
    const bench = new MachineBench();
    expect(ask(bench, { op: "watch" })).toBeUndefined();
  });

  it("of very many changes at once is told over several messages, none of them too large", () => {
    const bench = MachineBench.leading({ queuedCallsMax: 10_000 });
    ask(bench, { op: "watch" });
    const picture = snapshot(bench);
    const program = "\u{1F600}".repeat(120);
    for (let i = 0; i < 2_000; i++)
      bench.call(`c${i}`, { [headers.program]: `${program}${i}`, [headers.thread]: program });
    for (let i = 0; i < 20; i++) {
      for (const changes of due(bench)) {
        expect(Buffer.byteLength(JSON.stringify(changes))).toBeLessThan(512 * 1024);
        expect(picture.apply(changes)).toBe(true);
      }
      ask(bench, { op: "watch" });
    }
    expect(picture.calls.size).toBe(2_000);
    expect(still(picture)).toEqual(still(snapshot(bench, 2_000)));
  });

  it("with more changes than are kept makes everybody read again", () => {
    const bench = MachineBench.leading();
    ask(bench, { op: "watch" });
    const picture = snapshot(bench);
    for (let i = 0; i < 26_000; i++) bench.call(`c${i}`);
    expect(due(bench).some((changes) => !picture.apply(changes))).toBe(true);
  });
});

it("says in which unit attained service is, when that is not time", () => {
  const poolOf = (policy: string) => {
    const bench = MachineBench.leading({ policy } as Partial<MachineConfig>);
    return ask(bench, { op: "page", what: "engines" })?.pool;
  };
  expect(poolOf("las-decay")?.measures).toBe("tokens");
  expect(poolOf("plas")).not.toHaveProperty("measures");
});

describe("a page", () => {
  it("is of one tenant, of one program, or of all, as asked", () => {
    const bench = MachineBench.leading();
    for (let i = 0; i < 9; i++) bench.call(`c${i}`, { [headers.program]: `prog-${i % 3}` });
    const program = { tenant: "default", program: "prog-1" };
    const calls = ask(bench, { op: "page", what: "calls", ...program })?.calls ?? [];
    expect(calls.map(({ call }) => call).sort()).toEqual(["default/c1", "default/c4", "default/c7"]);
    expect(ask(bench, { op: "page", what: "programs", ...program })?.programs).toMatchObject([{ program: "prog-1" }]);
    expect(ask(bench, { op: "page", what: "programs", tenant: "other" })?.programs).toEqual([]);
    expect(ask(bench, { op: "page", what: "programs", tenant: "default", program: "nobody" })?.programs).toEqual([]);
  });

  it("is asked for at most so often in a second, so that readers cannot keep the leader from planning", () => {
    const bench = MachineBench.leading();
    const question = { op: "page", what: "calls" } as const;
    const answers = Array.from({ length: 300 }, () => ask(bench, question)).filter((page) => page !== undefined);
    expect(answers).toHaveLength(200);
    bench.at += 1_000;
    expect(ask(bench, question)).toBeDefined();
  });
});
