/**
 * The laws that hold on random programs, engines, losses, cancels and redeliveries. Each is a property of its own,
 * so that the mutation tests can ask the same ones.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type Command,
  callId,
  engineId,
  type Input,
  type Policy,
  type PolicyName,
  policies,
  programId,
  Scheduler,
} from "../src/index.ts";
import { actionLists, anything, capacities, chains, choices, configOf, play } from "./actions.ts";
import { checkReplay } from "./checkers.ts";
import { coreConfig, capacity as smallEngine } from "./config.ts";
import { Story } from "./story.ts";

export interface LawOptions {
  runs: number;
  /** For runs that shall be the same each time; the first failure is not made smaller then. */
  seed?: number;
}

export type Law = (options: LawOptions) => void;

function parameters({ runs, seed }: LawOptions): { numRuns: number; seed?: number; endOnFailure?: boolean } {
  return seed === undefined ? { numRuns: runs } : { numRuns: runs, seed, endOnFailure: true };
}

/** S3, S6–S11, the lines of Algorithm 1 and the table's sums, in any world: see checkers.ts and observer.ts. */
const anyWorld: Law = (options) => {
  const property = fc.property(choices(), capacities, actionLists, (choice, capacity, actions) => {
    const config = configOf(choice);
    const world = play(config, capacity, anything(), actions);
    const { queued, running } = world.scheduler.counts();
    assert.deepEqual({ queued, running }, { queued: 0, running: 0 });
    checkReplay(world, config);
  });
  fc.assert(property, parameters(options));
};

/** On chains eq. 1, eq. 2 and the call graph are the same: the same commands, whatever is lost or comes twice. */
const sameOnChains: Law = (options) => {
  const property = fc.property(choices(["plas"]), capacities, actionLists, (choice, capacity, actions) => {
    const said = (policy: PolicyName) =>
      play(configOf({ ...choice, policy }), capacity, chains(), actions).logs.map(({ commands }) => commands);
    const plas = said("plas");
    assert.deepEqual(said("atlas"), plas);
    assert.deepEqual(said("atlas-dag"), plas);
  });
  fc.assert(property, parameters(options));
};

const NEEDS_MAX = 12;

/** Calls that are there from the start: one turn each, again and again, is what tiny quanta make of least service. */
const tinyQuantaAreTurns: Law = (options) => {
  const turns: Policy = {
    ...policies["round-robin"],
    ladder: [{ lo: 0, hi: Number.POSITIVE_INFINITY, quantum: 1 }],
  };
  const tiny = Array.from({ length: NEEDS_MAX + 1 }, (_, i) => ({
    lo: i,
    hi: i === NEEDS_MAX ? Number.POSITIVE_INFINITY : i + 1,
    quantum: 1,
  }));
  const needs = fc.array(fc.integer({ min: 1, max: NEEDS_MAX }), { minLength: 1, maxLength: 8 });
  const property = fc.property(needs, fc.integer({ min: 1, max: 4 }), (calls, batchCallsMax) => {
    const batches = (policy: Policy) => {
      const story = new Story(coreConfig(policy, tiny));
      story.join("e", { batchCallsMax });
      for (const [i, need] of calls.entries()) story.arrive(`c${i}`, { needs: need });
      story.plan();
      story.runAll();
      return story.batches;
    };
    assert.deepEqual(batches(policies.plas), batches(turns));
  });
  fc.assert(property, parameters(options));
};

const PROGRAMS = ["p0", "p1", "p2", "p3"];

/**
 * What has no order has none: table entries restored in any order, the calls of a report in any order, and calls that
 * are read while gathering in any order give the same plans.
 */
const orderOfEquals: Law = (options) => {
  const permuted = <T>(values: readonly T[]) => fc.shuffledSubarray([...values], { minLength: values.length });
  const calls = Array.from({ length: 10 }, (_, i) => i);
  const property = fc.property(
    choices(["plas", "atlas", "program-fcfs", "mlfq"]),
    capacities,
    fc.array(fc.nat({ max: 60 }), { minLength: PROGRAMS.length, maxLength: PROGRAMS.length }),
    fc.tuple(permuted(PROGRAMS), permuted(calls)),
    fc.array(permuted(calls), { minLength: 1, maxLength: 12 }),
    (choice, capacity, pasts, [programs, reads], reports) => {
      const config = configOf(choice);
      const inOrder = reports.map(() => calls);
      const engine = { ...smallEngine, ...capacity };
      const plain = plansOf(new Scheduler(config), engine, {
        pasts,
        programs: PROGRAMS,
        reads: calls,
        reports: inOrder,
      });
      assert.deepEqual(plansOf(new Scheduler(config), engine, { pasts, programs, reads, reports }), plain);
    },
  );
  fc.assert(property, parameters(options));
};

interface Order {
  pasts: readonly number[];
  programs: readonly string[];
  /** Numbers of calls, in the order in which they are read. */
  reads: readonly number[];
  /** The same, one list per report. */
  reports: readonly (readonly number[])[];
}

/** A leader reads table and calls, leads, and hears reports of an engine that serves each planned call 3 ms a time. */
function plansOf(
  scheduler: Scheduler,
  capacity: typeof smallEngine,
  { pasts, programs, reads, reports }: Order,
): Command[] {
  const said: Command[] = [];
  const feed = (input: Input) => {
    // Entries are saved in the order in which calls end, and acked so: those orders are events.
    for (const command of scheduler.apply(input)) if (command.kind === "sendPlan") said.push(command);
  };
  const engine = engineId("e");
  for (const program of programs) {
    const attained = pasts[PROGRAMS.indexOf(program)] ?? 0;
    const sums = { serviceMs: attained, waitingMs: 0, attained, pathServiceMs: attained, pathWaitingMs: 0 };
    const times = { arrivedAt: attained, lastArrivalAt: 0, lastCompletionAt: 0, endedAt: undefined };
    const restored = {
      program: programId(program),
      ...sums,
      ...times,
      endedCalls: 1,
      pin: undefined,
      engines: [],
      charged: [],
    };
    feed({ kind: "programStarted", at: 0, program: restored.program, restored });
  }
  for (const i of reads) {
    const program = programId(PROGRAMS[i % PROGRAMS.length] ?? "");
    const call = {
      id: callId(`c${i}`),
      seq: i + 1,
      program,
      arrivedAt: 0,
      deadlineAt: 1e9 + i,
      promptTokens: 5 + 7 * i,
    };
    feed({ kind: "callArrived", at: 0, call });
  }
  feed({ kind: "engineJoined", at: 0, engine, incarnation: "i", capacity });
  feed({ kind: "leaderStarted", at: 0 });
  const served = new Map<string, { attempt: number; serviceMs: number }>();
  let planNumber = 0;
  for (const [number, order] of reports.entries()) {
    const at = 10 * (number + 1);
    feed({ kind: "planDue", at });
    for (const id of reads) feed({ kind: "markerWritten", at, call: callId(`c${id}`), attempt: 2, fence: 100 + id });
    feed({ kind: "planDue", at });
    const plan = said.findLast((command) => command.kind === "sendPlan")?.plan;
    planNumber = plan?.number ?? planNumber;
    for (const { call, attempt } of plan?.run ?? [])
      served.set(call, { attempt, serviceMs: (served.get(call)?.serviceMs ?? 0) + 3 });
    const named = order.flatMap((i) => {
      const reported = served.get(`c${i}`);
      return reported ? [{ call: callId(`c${i}`), ...reported, contextTokens: 10 + 7 * i + reported.serviceMs }] : [];
    });
    const report = { engine, incarnation: "i", number: number + 1, planNumber, calls: named, finished: [], fenced: [] };
    feed({ kind: "reported", at, report });
  }
  return said;
}

export const laws: Readonly<Record<string, Law>> = {
  "any world": anyWorld,
  "plas, atlas and atlas-dag are one on chains": sameOnChains,
  "least service with tiny quanta is round-robin": tinyQuantaAreTurns,
  "what has no order has none": orderOfEquals,
};
