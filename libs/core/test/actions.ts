/** What can happen in the small world, drawn at random: engines, configurations, and lists of actions. */
import fc from "fast-check";
import {
  type BalancerName,
  balancers,
  type CoreConfig,
  type EngineCapacity,
  isBalancerName,
  isPolicyName,
  type PolicyName,
  policies,
} from "../src/index.ts";
import { checkHolders } from "./checkers.ts";
import { coreConfig, ladder } from "./config.ts";
import { World } from "./world.ts";
import type { WorldAgent } from "./world-agent.ts";

const PROGRAMS = 4;
const ENGINES = 3;
const ACTIONS_MAX = 300;

export const capacities = fc.record<EngineCapacity>({
  batchCallsMax: fc.integer({ min: 1, max: 3 }),
  residentCallsMax: fc.integer({ min: 1, max: 6 }),
  heldCallsMax: fc.integer({ min: 1, max: 6 }),
  kvBlocks: fc.integer({ min: 2, max: 24 }),
  blockTokens: fc.constant(10),
  preemption: fc.constantFrom("swap", "swap", "recompute", "none"),
  hostBlocks: fc.constantFrom(0, 4, 12),
  retains: fc.boolean(),
});

const ladders = {
  wide: ladder,
  /** Moves calls at nearly each millisecond that the small world knows. */
  tight: [1, 2, 4, 8, 16].map((quantum, i, all) => ({
    lo: quantum - 1,
    hi: i === all.length - 1 ? Number.POSITIVE_INFINITY : 2 * quantum - 1,
    quantum,
  })),
  calibrated: { first: 5, levels: 4, factor: 2 },
};

/** A configuration by names, so that a failing case can be read. */
export interface Choice {
  policy: PolicyName;
  ladder: keyof typeof ladders;
  balancer: BalancerName;
  binding: "arrival" | "late";
  misfit: "stop" | "skip";
  windowSteps: number;
  reserveCallsMax: number;
  beta: number;
  betaFloorMs: number;
  promotedShare: number;
}

export function configOf({ policy, ladder: levels, balancer, ...over }: Choice): CoreConfig {
  return coreConfig(policies[policy], ladders[levels], { balancer: balancers[balancer], ...over });
}

export function choices(
  policy: readonly PolicyName[] = Object.keys(policies).filter(isPolicyName),
): fc.Arbitrary<Choice> {
  return fc.record({
    policy: fc.constantFrom(...policy),
    ladder: fc.constantFrom("wide", "tight", "calibrated"),
    balancer: fc.constantFrom(...Object.keys(balancers).filter(isBalancerName)),
    binding: fc.constantFrom("arrival", "arrival", "late"),
    misfit: fc.constantFrom("stop", "skip"),
    windowSteps: fc.integer({ min: 1, max: 8 }),
    reserveCallsMax: fc.integer({ min: 0, max: 2 }),
    beta: fc.constantFrom(0.5, 2, 8, Number.POSITIVE_INFINITY),
    betaFloorMs: fc.constantFrom(1, 40, 1_000),
    // An engine has one to four places: one of them, half of them, no limit.
    promotedShare: fc.constantFrom(0.1, 0.5, Number.POSITIVE_INFINITY),
  });
}

/** Who arrives: whatever comes (threads and parents at random), or the next call of a chain when the last has ended. */
export interface Arrivals {
  arrive(world: World, a: number, b: number): void;
  /** Whether calls that have ended may come again, because their ack was lost. */
  again: boolean;
}

export function anything(): Arrivals {
  const calls = new Map<string, string[]>();
  const arrive = (world: World, a: number, b: number) => {
    const program = `t/p${a % PROGRAMS}`;
    const earlier = calls.get(program) ?? [];
    const parents = earlier.slice(-5).filter((_, i) => (b >> i) % 2 === 1);
    const thread = b % 3 === 0 ? {} : { thread: `x${b % 3}` };
    const lifetime = a % 5 === 0 ? { lifetimeMs: 3 * b } : {};
    const sizes = { need: 1 + (b % 40), tokens: 1 + ((a * b) % 120) };
    const id = world.arrive(program, { ...sizes, ...lifetime, ...thread, parents });
    calls.set(program, [...earlier, id]);
  };
  return { arrive, again: true };
}

export function chains(): Arrivals {
  const last = new Map<string, string>();
  const arrive = (world: World, a: number, b: number) => {
    const program = `t/p${a % PROGRAMS}`;
    const before = last.get(program);
    if (before !== undefined && world.calls.has(before)) return;
    const parents = before === undefined ? [] : [before];
    last.set(program, world.arrive(program, { need: 1 + (b % 40), tokens: 1 + ((a * b) % 120), parents }));
  };
  return { arrive, again: false };
}

/** What an action acts on: `engine` and `agent` are chosen by `a`. */
interface Scene {
  world: World;
  capacity: EngineCapacity;
  arrivals: Arrivals;
  engine: string;
  agent: WorldAgent | undefined;
}

interface ActionKind {
  /** How often it comes, relative to the others. */
  weight: number;
  act(scene: Scene, a: number, b: number): void;
}

const kinds: Readonly<Record<string, ActionKind>> = {
  arrive: { weight: 8, act: ({ world, arrivals }, a, b) => arrivals.arrive(world, a, b) },
  redeliver: { weight: 2, act: ({ world }, a) => world.redeliver(a) },
  cancel: { weight: 3, act: ({ world }, a) => world.cancel(a) },
  endProgram: { weight: 1, act: ({ world }, a, b) => world.endProgram(`t/p${a % PROGRAMS}`, b % 2 === 0) },
  plan: { weight: 8, act: ({ world }) => world.plan() },
  step: { weight: 8, act: ({ agent }, _a, b) => agent?.step(1 + (b % 15)) },
  report: {
    weight: 8,
    act: ({ world, agent }) => {
      if (agent) world.sendReport(agent);
    },
  },
  // Mostly in order, sometimes not.
  deliver: { weight: 20, act: ({ world }, a, b) => world.deliver(b % 4 === 0 ? a : 0, 1) },
  repeat: { weight: 2, act: ({ world }, a) => world.deliver(a, 2) },
  lose: { weight: 4, act: ({ world }, a) => world.deliver(a, 0) },
  pass: { weight: 4, act: ({ world }, _a, b) => world.pass(b) },
  start: { weight: 3, act: ({ world, engine, capacity }) => world.startAgent(engine, capacity) },
  crash: { weight: 1, act: ({ world, engine }) => world.endAgent(engine, "crash") },
  exit: { weight: 1, act: ({ world, engine }) => world.endAgent(engine, "exit") },
  leave: { weight: 1, act: ({ agent }) => agent?.drain() },
  silence: { weight: 1, act: ({ world, engine }) => world.endAgent(engine, "silence") },
  suspect: { weight: 1, act: ({ world, engine }, _a, b) => world.suspect(engine, b % 2 === 0) },
  admit: { weight: 1, act: ({ world }, _a, b) => world.admit(b % 2 === 0) },
  takeOver: { weight: 1, act: ({ world, engine }, _a, b) => world.takeOver(({ id }) => b % 3 !== 0 || id !== engine) },
};

export interface Action {
  kind: string;
  a: number;
  b: number;
}

export const actionLists: fc.Arbitrary<Action[]> = fc.array(
  fc.record({
    kind: fc.oneof(...Object.entries(kinds).map(([kind, { weight }]) => ({ arbitrary: fc.constant(kind), weight }))),
    a: fc.nat({ max: 1_000 }),
    b: fc.nat({ max: 1_000 }),
  }),
  { minLength: 20, maxLength: ACTIONS_MAX, size: "max" },
);

/** Plays the actions, then lets everything come to rest (S11). @returns the world, of which nothing is left to do. */
export function play(
  config: CoreConfig,
  capacity: EngineCapacity,
  arrivals: Arrivals,
  actions: readonly Action[],
): World {
  const world = new World(config, arrivals.again);
  world.startAgent("e0", capacity);
  for (const { kind, a, b } of actions) {
    const agents = [...world.agents.values()];
    const agent = agents[a % Math.max(1, agents.length)];
    kinds[kind]?.act({ world, capacity, arrivals, engine: `e${a % ENGINES}`, agent }, a, b);
    checkHolders(world);
  }
  for (const id of world.agents.keys()) world.suspect(id, false);
  world.admit(true);
  world.drain(capacity);
  return world;
}
