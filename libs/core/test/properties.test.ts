import fc from "fast-check";
import { expect, it } from "vitest";
import { balancers, type CoreConfig, type EngineCapacity, policies } from "../src/index.ts";
import { ladder } from "./bench.ts";
import { checkHolders, checkReplay } from "./checkers.ts";
import { coreConfig, runPrograms, type TestProgram } from "./drive.ts";
import { World } from "./world.ts";

const RUNS = 600;
const ACTIONS_MAX = 300;

const capacityArbitrary = fc.record<EngineCapacity>({
  batchCallsMax: fc.integer({ min: 1, max: 3 }),
  residentCallsMax: fc.integer({ min: 1, max: 5 }),
  heldCallsMax: fc.integer({ min: 1, max: 6 }),
  kvBlocks: fc.integer({ min: 2, max: 20 }),
  blockTokens: fc.constant(10),
  preemption: fc.constantFrom("swap", "recompute", "none"),
});

const configArbitrary: fc.Arbitrary<CoreConfig> = fc
  .record({
    policy: fc.constantFrom(policies.fcfs, policies.plas, policies.atlas),
    balancer: fc.constantFrom(balancers.locality, balancers["least-used"], balancers["round-robin"], balancers.sticky),
    windowSteps: fc.integer({ min: 1, max: 8 }),
    reserveCallsMax: fc.integer({ min: 0, max: 2 }),
  })
  .map(({ policy, ...over }) => coreConfig(policy, ladder, over));

const weights = {
  arrive: 8,
  cancel: 3,
  endProgram: 1,
  plan: 8,
  step: 8,
  report: 8,
  deliver: 20,
  repeat: 2,
  lose: 4,
  pass: 4,
  start: 3,
  crash: 1,
  exit: 1,
  silence: 1,
  suspect: 1,
  admit: 1,
  takeOver: 1,
} as const;
type ActionKind = keyof typeof weights;

const actionArbitrary = fc.record({
  kind: fc.oneof(
    ...Object.entries(weights).map(([kind, weight]) => ({ arbitrary: fc.constant(kind as ActionKind), weight })),
  ),
  a: fc.nat({ max: 1_000 }),
  b: fc.nat({ max: 1_000 }),
});

function act(world: World, capacity: EngineCapacity, kind: ActionKind, a: number, b: number): void {
  const engine = `e${a % 3}`;
  const agents = [...world.agents.values()];
  const agent = agents[a % Math.max(1, agents.length)];
  switch (kind) {
    case "arrive":
      world.arrive(`t/p${a % 4}`, 1 + (b % 40), 1 + ((a * b) % 120));
      break;
    case "cancel":
      world.cancel(a);
      break;
    case "endProgram":
      world.endProgram(`t/p${a % 4}`, b % 2 === 0);
      break;
    case "plan":
      world.plan();
      break;
    case "step":
      agent?.step(1 + (b % 15));
      break;
    case "report":
      if (agent) world.sendReport(agent);
      break;
    case "deliver":
      // Mostly in order, sometimes not.
      world.deliver(b % 4 === 0 ? a : 0, 1);
      break;
    case "repeat":
      world.deliver(a, 2);
      break;
    case "lose":
      world.deliver(a, 0);
      break;
    case "pass":
      world.pass(b);
      break;
    case "start":
      world.startAgent(engine, capacity);
      break;
    case "crash":
    case "exit":
    case "silence":
      world.endAgent(engine, kind);
      break;
    case "suspect":
      world.feed({ kind: "engineSuspected", at: world.at, engine: engine as never, suspected: b % 2 === 0 });
      break;
    case "admit":
      world.feed({ kind: "timePassed", at: world.at, admitsNew: b % 2 === 0 });
      break;
    case "takeOver":
      world.takeOver((one) => b % 3 !== 0 || one.id !== engine);
      break;
  }
}

it("loses no call, runs none twice at once and never overfills an engine, whatever happens", () => {
  const property = fc.property(
    configArbitrary,
    capacityArbitrary,
    fc.array(actionArbitrary, { minLength: 20, maxLength: ACTIONS_MAX, size: "max" }),
    (config, capacity, actions) => {
      const world = new World(config);
      world.startAgent("e0", capacity);
      for (const { kind, a, b } of actions) {
        act(world, capacity, kind, a, b);
        checkHolders(world);
      }
      for (const id of world.agents.keys()) {
        world.feed({ kind: "engineSuspected", at: world.at, engine: id as never, suspected: false });
      }
      world.feed({ kind: "timePassed", at: world.at, admitsNew: true });
      world.drain(capacity);
      expect(world.scheduler.counts()).toMatchObject({ queued: 0, running: 0 });
      checkReplay(world, config);
    },
  );
  fc.assert(property, { numRuns: RUNS });
});

it("gives the batches of plas under atlas when every program is a chain", () => {
  const programs: fc.Arbitrary<TestProgram[]> = fc
    .array(fc.array(fc.integer({ min: 1, max: 15 }), { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 6 })
    .map((chains) => chains.map((steps, i) => ({ name: `p${i}-`, steps })));
  const property = fc.property(programs, fc.integer({ min: 1, max: 4 }), (chains, batchCallsMax) => {
    const plas = runPrograms(coreConfig(policies.plas, ladder), batchCallsMax, chains);
    const atlas = runPrograms(coreConfig(policies.atlas, ladder), batchCallsMax, chains);
    expect(atlas).toEqual(plas);
  });
  fc.assert(property, { numRuns: RUNS });
});
