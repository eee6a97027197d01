/** Random programs on small engines under every system: nothing is lost, nothing is over budget, all times add up. */
import fc from "fast-check";

import { type CallSpec, type ProgramSpec, type System, simulate, systems } from "/work/main/libs/simulation/src/index.ts";
import { plain, program } from "/work/main/libs/simulation/test/lab.ts";

const RUNS = 150;

const callSpec = (index: number): fc.Arbitrary<CallSpec> =>
  fc
    .record({
      parent: index === 0 ? fc.constant(undefined) : fc.option(fc.nat(index - 1), { nil: undefined }),
      second: index < 2 ? fc.constant(undefined) : fc.option(fc.nat(index - 1), { nil: undefined }),
      gapMs: fc.constantFrom(0, 0, 13, 400),
      goesOn: fc.boolean(),
      newPromptTokens: fc.nat(70),
      decodeTokens: fc.integer({ min: 1, max: 40 }),
      thread: fc.constantFrom(undefined, "a", "b"),
    })
    .map(({ parent, second, goesOn, thread, ...sizes }) => ({
      ...sizes,
      ...(thread === undefined ? {} : { thread }),
      parents: [...new Set([parent, second].filter((one) => one !== undefined))],
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

/** Preempted calls keep what was computed: with any quanta there is progress. */
const keeping = fc.record({
  over: fc.record({
    ...common,
    preemption: fc.constant("swap"),
    chunkTokens: fc.constantFrom(7, 64, Number.POSITIVE_INFINITY),
    ladder: fc.constantFrom({ first: 60, levels: 4, factor: 2 }, { first: 3_000, levels: 2, factor: 2 }),
    beta: fc.constantFrom(0.05, 8),
  }),
  hostKvTokens: fc.constant(160_000),
});

/** They may lose it: a turn must be longer than it takes to compute a context, or nobody ever gets anywhere. */
const losing = fc.record({
  over: fc.record({
    ...common,
    preemption: fc.constantFrom("swap", "recompute"),
    chunkTokens: fc.constantFrom(64, Number.POSITIVE_INFINITY),
    ladder: fc.constant({ first: 3_000, levels: 2, factor: 2 }),
    beta: fc.constant(8),
  }),
  hostKvTokens: fc.constantFrom(0, 100),
});

const world = fc.record({
  programs,
  system: fc.constantFrom<System>(...Object.values(systems)),
  memory: fc.oneof(keeping, losing),
  engines: fc.integer({ min: 1, max: 3 }),
  plansOn: fc.constantFrom<("window" | "arrival")[]>("window", "arrival"),
  // From less than one long context to no limit at all.
  kvTokens: fc.constantFrom(64, 200, 400, 160_000),
  batchCallsMax: fc.integer({ min: 1, max: 5 }),
});


for (const [i, { kvTokens, memory: { over, hostKvTokens }, batchCallsMax, system, ...spec }] of [...(fc.sample(world as any, { numRuns: Number(process.argv[3] ?? 1500), seed: Number(process.argv[2]) } as any).entries() as any)].slice(process.argv[3] ? -1 : 0)) {
  if (process.argv[3]) { const { Scheduler } = await import('/work/main/libs/core/src/index.ts'); const orig = Scheduler.prototype.apply; Scheduler.prototype.apply = function (input: any) { const out = orig.call(this, input); if (input.kind !== 'timePassed') console.log(input.at, input.kind, JSON.stringify(input.report ?? input.call ?? ''), out.filter((c: any) => c.kind === 'sendPlan').map((c: any) => JSON.stringify({ ...c.plan, incarnation: undefined, cancel: undefined, fences: undefined })).join(' ')); return out; }; 
const { PrefixCache } = await import("/work/main/libs/simulation/src/prefix-cache.ts"); const mr = (PrefixCache.prototype as any).makeRoom; (PrefixCache.prototype as any).makeRoom = function () { try { mr.call(this); } catch (e) { for (const [p, n] of this.programs) for (const [k, a] of Object.entries(n)) (a as any[]).forEach((x, i) => x && (x.pins || x.present) && console.log("NODE", p.id, k, i, x.startBlock, x.endBlock, "present", x.present, "pins", x.pins, "live", x.liveChildren)); for (const [k, x] of this.shared) console.log("SHARED", k, x.present, x.pins, x.liveChildren); console.log("outside", this.outside); throw e; } };
}
 const preset = { ...plain, cost: { stepMs: 10, prefillTokenMs: 0.5, contextTokenMs: 0.01, decodeTokenMs: 0.1, planMs: 1.5 }, kvTokens, hostKvTokens, batchCallsMax };
  try {
  const r = simulate({ ...spec, preset, system: { ...system, ...over }, keepCalls: true, untilMs: 1e6 });
  if (r.programs.some((p: any) => p.endedAtMs === undefined)) { console.log("STUCK", i, JSON.stringify({ kvTokens, hostKvTokens, batchCallsMax, name: system.name, over, spec }).slice(0, 3000)); break; }
  } catch (e) { console.log("THROW", i, (e as Error).stack?.split("\n").slice(0, 7).join("\n"), JSON.stringify({ kvTokens, hostKvTokens, batchCallsMax, name: system.name, over, e: spec.engines, p: spec.plansOn})); break; }
}
