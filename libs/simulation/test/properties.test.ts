/** Random programs on small engines under every system: nothing is lost, nothing is over budget, all times add up. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CallSpec, type ProgramSpec, type System, simulate, systems } from "../src/index.ts";
import { plain, program } from "./lab.ts";

const RUNS = 200;

const callSpec = (index: number): fc.Arbitrary<CallSpec> =>
  fc
    .record({
      parent: index === 0 ? fc.constant(undefined) : fc.option(fc.nat(index - 1), { nil: undefined }),
      second: index < 2 ? fc.constant(undefined) : fc.option(fc.nat(index - 1), { nil: undefined }),
      gapMs: fc.constantFrom(0, 0, 13, 400),
      goesOn: fc.boolean(),
      // Those of an open loop wait for nobody.
      waits: fc.constantFrom(true, true, false),
      newPromptTokens: fc.nat(70),
      decodeTokens: fc.integer({ min: 1, max: 40 }),
      thread: fc.constantFrom(undefined, "a", "b"),
    })
    .map(({ parent, second, goesOn, waits, thread, ...sizes }) => ({
      ...sizes,
      ...(thread === undefined ? {} : { thread }),
      parents: waits ? [...new Set([parent, second].filter((one) => one !== undefined))] : [],
      extends: goesOn ? parent : undefined,
    }));

const calls = fc
  .integer({ min: 1, max: 7 })
  .chain((count) => fc.tuple(...Array.from({ length: count }, (_, index) => callSpec(index))));

/** The second half of a program's root calls sample the first one's prompt, when there are several. */
function withSiblings(specs: readonly CallSpec[]): CallSpec[] {
  const first = specs.findIndex(({ extends: base }) => base === undefined);
  return specs.map((spec, index) =>
    index > first && spec.extends === undefined && index % 2 === 0
      ? { ...spec, newPromptTokens: specs[first]?.newPromptTokens ?? 0, samePromptAs: first }
      : spec,
  );
}

const programs: fc.Arbitrary<ProgramSpec[]> = fc
  .array(fc.record({ afterMs: fc.nat(600), calls, shared: fc.constantFrom(0, 5, 48) }), { minLength: 1, maxLength: 9 })
  .map((drawn) => {
    let at = 0;
    return drawn.map(({ afterMs, calls: specs, shared }) => {
      at += afterMs;
      return program(at, withSiblings(specs), { sharedPrompt: "s", sharedPromptTokens: shared });
    });
  });

const common = {
  cache: fc.constantFrom("none", "lru", "policy"),
  hostCache: fc.boolean(),
  swapPer: fc.constantFrom("call", "block"),
  windowSteps: fc.constantFrom(1, 3, 8),
  reserveCallsMax: fc.nat(2),
  binding: fc.constantFrom("arrival", "late"),
  misfit: fc.constantFrom("stop", "skip"),
} as const;

/** Also where preempted calls lose what was computed, and turns are shorter than a prefill: everybody gets somewhere. */
const memories = fc.record({
  over: fc.record({
    ...common,
    preemption: fc.constantFrom("swap", "recompute"),
    chunkTokens: fc.constantFrom(7, 64, Number.POSITIVE_INFINITY),
    ladder: fc.constantFrom({ first: 60, levels: 4, factor: 2 }, { first: 3_000, levels: 2, factor: 2 }),
    beta: fc.constantFrom(0.05, 1, 8),
  }),
  hostKvTokens: fc.constantFrom(0, 100, 160_000),
});

const world = fc.record({
  programs,
  system: fc.constantFrom<System>(...Object.values(systems)),
  memory: memories,
  engines: fc.integer({ min: 1, max: 3 }),
  plansOn: fc.constantFrom<("window" | "arrival")[]>("window", "arrival"),
  // From less than one long context to no limit at all.
  kvTokens: fc.constantFrom(64, 200, 400, 160_000),
  batchCallsMax: fc.integer({ min: 1, max: 5 }),
});

describe("any simulation", () => {
  it("ends every call, computes every token, keeps within its memory, and accounts for all time", () => {
    fc.assert(
      fc.property(world, ({ kvTokens, memory: { over, hostKvTokens }, batchCallsMax, system, ...spec }) => {
        const preset = {
          ...plain,
          cost: { stepMs: 10, prefillTokenMs: 0.5, contextTokenMs: 0.01, decodeTokenMs: 0.1, planMs: 1.5 },
          kvTokens,
          hostKvTokens,
          batchCallsMax,
        };
        const played = { ...spec, preset, system: { ...system, ...over }, keepCalls: true };
        const result = simulate(played);
        const kvBlocks = Math.floor(kvTokens / 16);

        expect(result.completedTokens).toBe(result.offeredTokens);
        expect(result.programs.every(({ endedAtMs }) => endedAtMs !== undefined)).toBe(true);
        const decoded = result.engine.reduce((sum, engine) => sum + engine.decodedTokens, 0);
        expect(decoded).toBe(result.offeredTokens);
        for (const engine of result.engine) {
          expect(engine.kvBlocksMax).toBeLessThanOrEqual(kvBlocks);
          // In windows the core knows of every token that is there.
          if (played.plansOn === "window") expect(engine.outgrown).toBe(0);
          expect(engine.batchMax).toBeLessThanOrEqual(batchCallsMax);
          expect(engine.busyMs + engine.planMs + engine.idleMs).toBeCloseTo(result.endedAtMs, 6);
        }
        for (const program of result.programs) {
          expect(program.pathServiceMs + program.pathWaitingMs).toBeCloseTo(program.responseMs, 6);
          expect(program.cachedTokens).toBeLessThanOrEqual(program.promptTokens);
        }
        for (const call of result.calls ?? []) {
          const waitingMs = call.endedAtMs - call.arrivedAtMs - call.serviceMs;
          expect(waitingMs).toBeGreaterThan(-1e-6);
          expect(call.dispatchedAtMs).toBeGreaterThanOrEqual(call.arrivedAtMs);
          expect(call.firstTokenAtMs).toBeGreaterThan(call.dispatchedAtMs);
          expect(call.cachedTokens).toBeLessThan(Math.max(1, call.promptTokens));
          // Alone it would take its tokens' time at least.
          expect(call.serviceMs).toBeGreaterThan(call.decodeTokens * 10);
        }
        expect(JSON.stringify(simulate(played))).toBe(JSON.stringify(result));
      }),
      { numRuns: RUNS },
    );
  });
});
