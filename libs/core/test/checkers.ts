/**
 * What must hold in the small world at every plan. Numbers are those of design §4. Orders and sums are computed here,
 * not by the core's own helpers, so that a mistake in those is seen.
 */
import type { Call } from "../src/call.ts";
import type { Engine } from "../src/engine.ts";
import type { CoreConfig, EnginePlan } from "../src/index.ts";
import { Scheduler } from "../src/index.ts";
import type { Retained } from "../src/retained.ts";
import type { State } from "../src/state.ts";
import type { World } from "./world.ts";

export function stateOf(scheduler: Scheduler): State {
  return (scheduler as unknown as { state: State }).state;
}

/** Q1 before Q2, then by rank, then first come, first served. */
export function outranks(a: Call, b: Call): boolean {
  if (a.level !== b.level) return a.level < b.level;
  return a.rank !== b.rank ? a.rank < b.rank : a.order < b.order;
}

/** S3, S7 and S9 of a plan, at the moment it is made. */
export function checkPlan(world: World, plan: EnginePlan): void {
  const state = stateOf(world.scheduler);
  const engine = state.engines.get(plan.engine);
  if (!engine) throw new Error(`a plan for ${plan.engine}, which is not there`);
  checkNames(world, plan);
  checkRoom(world, engine, plan);
  checkRetained(world, engine, plan);
  const { begun, newcomers } = begunBy(world, plan);
  checkRanks(world, engine, { begun, newcomers });
  checkNewcomers(world, engine, newcomers);
  checkUnstoppable(state, engine, plan);
  const [first] = begun;
  if (engine.draining && first) throw new Error(`leaving: ${first} begins on ${engine.id}, which is about to leave`);
}

/** What its agent cannot stop and go on with stays in the batch, while there is room for all such calls. */
function checkUnstoppable(state: State, engine: Engine, plan: EnginePlan): void {
  if (engine.capacity.preemption === "none") return;
  const stay = new Set([...engine.unstoppable].map(({ id }) => id));
  const sizes = [...engine.unstoppable].map((call) => blocks(engine, call.contextTokens + state.config.windowSteps));
  if (sizes.reduce((sum, size) => sum + size, 0) > engine.capacity.kvBlocks) return;
  const parked = plan.keep.find(({ call }) => stay.has(call));
  const other = plan.run.find(({ call }) => !stay.has(call));
  if (parked && other) throw new Error(`S9: ${parked.call} cannot be stopped, ${other.call} has its place`);
}

function checkNames(world: World, plan: EnginePlan): void {
  const names = [...plan.run, ...plan.reserve, ...plan.keep, ...plan.cancel].map(({ call }) => call);
  if (new Set(names).size !== names.length) throw new Error(`a call is twice in a plan: ${names.join(" ")}`);
  for (const { call, attempt, dispatch } of [...plan.run, ...plan.reserve, ...plan.keep]) {
    if (attempt < 2 || !dispatch) continue;
    if (!world.markers.has(`${call}#${attempt}@${dispatch.fence}`)) {
      throw new Error(
        `S3: ${call} is planned as attempt ${attempt} behind ${dispatch.fence}, which is no marker of it`,
      );
    }
  }
}

/** Blocks of a context, as the contract has it: an estimate counts at most as the whole engine. */
function blocks(engine: Engine, tokens: number): number {
  return Math.min(Math.ceil(tokens / engine.capacity.blockTokens), engine.capacity.kvBlocks);
}

/** S7: every context that the plan has on the engine or in host memory fits there, all lists together. */
function checkRoom(world: World, engine: Engine, plan: EnginePlan): void {
  const { calls } = stateOf(world.scheduler);
  const { batchCallsMax, residentCallsMax, kvBlocks, hostBlocks = 0 } = engine.capacity;
  const used = { engine: 0, host: 0, contexts: 0, suspects: 0 };
  for (const { call } of [...plan.run, ...plan.reserve]) {
    used.engine += blocks(engine, (calls.get(call)?.contextTokens ?? 0) + plan.windowSteps);
    used.contexts++;
    if ((calls.get(call)?.crashes ?? 0) > 0) used.suspects++;
  }
  const idle = [
    ...plan.keep.map(({ call, tier }) => ({ tier, tokens: calls.get(call)?.contextTokens })),
    ...plan.retained.map(({ call, tier }) => ({ tier, tokens: world.endedTokens.get(call) })),
  ];
  for (const { tier, tokens } of idle) {
    if (tokens === undefined) throw new Error("S7: nobody knows the size of a context that is kept");
    if (tier === "engine") used.contexts++;
    if (tier !== "none") used[tier] += blocks(engine, tokens);
  }
  if (used.engine > kvBlocks) throw new Error(`S7: ${used.engine} of ${kvBlocks} blocks`);
  if (used.host > hostBlocks) throw new Error(`S7: ${used.host} of ${hostBlocks} blocks in host memory`);
  if (plan.run.length > batchCallsMax) throw new Error("S7: the batch is too large");
  if (used.contexts > Math.max(1, residentCallsMax)) throw new Error("S7: too many contexts");
  if (used.suspects > 1) throw new Error("two suspects in one batch");
}

/** A retained context is of an ended call of this engine, and has one owner. */
function checkRetained(world: World, engine: Engine, plan: EnginePlan): void {
  const retained = new Set<string>();
  for (const { call } of plan.retained) {
    if (world.endedOn.get(call) !== `${engine.id} ${engine.incarnation}`)
      throw new Error(`retained: ${call} did not end on this engine`);
    if (retained.has(call)) throw new Error(`retained: ${call} is there twice`);
    retained.add(call);
  }
  checkHeirs(world, engine);
  const { calls } = stateOf(world.scheduler);
  const continued = new Set<string>();
  for (const { call, dispatch } of [...plan.run, ...plan.reserve, ...plan.keep]) {
    const context = dispatch?.continues;
    if (context === undefined) continue;
    if (retained.has(context) || continued.has(context)) throw new Error(`retained: ${context} has two owners`);
    if (world.programs.get(context) !== calls.get(call)?.program.id)
      throw new Error(`retained: ${call} goes on from ${context}, which is of another program`);
    continued.add(context);
  }
}

/** What a queued call waits to go on from comes first, in the order in which the calls will run. */
function checkHeirs(world: World, engine: Engine): void {
  const { contexts } = engine.retained as unknown as { contexts: readonly Retained[] };
  let last: Retained | undefined;
  for (const context of contexts) {
    const { heir } = context;
    if (heir && (!last || last.heir)) {
      if (last?.heir && outranks(heir, last.heir)) throw new Error(`retained: ${heir.id} runs before ${last.heir.id}`);
    } else if (heir) throw new Error(`retained: ${heir.id} waits for a context behind one that nobody waits for`);
    if (heir && (heir.planned || !heir.list || heir.engine !== engine || heir.claims !== context))
      throw new Error(`retained: ${heir.id} is kept a context for and does not wait`);
    last = context;
  }
  for (const call of stateOf(world.scheduler).calls.values()) {
    if (call.planned || !call.list || call.engine !== engine) continue;
    const own = contexts.find(({ program, thread }) => program === call.program && thread === call.thread);
    const tokensMax = Math.max(call.contextTokens, call.promptTokensMax);
    if (own && !own.heir && tokensMax >= own.blocks * engine.capacity.blockTokens)
      throw new Error(`retained: nobody is said to wait for ${own.call}, but ${call.id} does`);
  }
}

/**
 * S9: who waits, may start and fits outranks no preemptible member of the batch. With the strict stop nobody behind a
 * call that does not fit is taken, so no waiting call at all may outrank a member.
 */
function checkRanks(world: World, engine: Engine, begins: Begun): void {
  const state = stateOf(world.scheduler);
  const { capacity } = engine;
  if (capacity.preemption === "none") return;
  const planned = [...engine.run, ...engine.reserve];
  const growth = state.config.windowSteps;
  const hasSuspect = planned.some((call) => call.crashes > 0);
  const admits = state.admitsNew && engine.accepting && engine.startedCount < capacity.heldCallsMax;
  const guest = nextGuest(world, engine, begins);
  for (const waiting of waitingFor(state, engine)) {
    if (planned.includes(waiting) || waiting.mayHaveRun || (waiting.crashes > 0 && hasSuspect)) continue;
    if (!engine.has(waiting) && !admits) continue;
    // What it claims it may have got from a call that this very plan began or sent for its marker.
    const passed = keepsContexts(state, engine) && !engine.has(waiting) && waiting !== guest;
    const mayPass = (member: Call) => engine.unstoppable.has(member) || (passed && !begins.newcomers.has(member.id));
    const behind = planned.filter((member) => !mayPass(member) && outranks(waiting, member));
    if (behind.length === 0) continue;
    if (state.config.misfit === "skip") {
      const before = planned.filter((member) => !behind.includes(member));
      const taken = before.reduce((sum, member) => sum + blocks(engine, member.contextTokens + growth), 0);
      if (taken + blocks(engine, waiting.contextTokens + growth) > capacity.kvBlocks) continue;
    }
    throw new Error(`S9: ${waiting.id} waits and outranks ${behind[0]?.id}`);
  }
}

/** There only calls that have a context pass those that have none. */
function keepsContexts(state: State, { capacity }: Engine): boolean {
  return !!capacity.retains && state.config.policy.keeps === "next-to-run";
}

/**
 * The first call without a context, when it waits and starves and no other that did is still there: nobody passes it.
 * Where one that begins with this plan was before it, what that one found left is what it finds.
 */
function nextGuest({ at, scheduler }: World, engine: Engine, { begun }: Begun): Call | undefined {
  const state = stateOf(scheduler);
  if (engine.guest && at <= engine.guestUntil) return undefined;
  const waits = (call: Call) => !engine.has(call) && !call.mayHaveRun && !call.claims;
  const calls = waitingFor(state, engine).filter((call) => begun.has(call.id) || waits(call));
  const first = calls.sort((a, b) => (outranks(a, b) ? -1 : 1))[0];
  return first && !engine.has(first) && starves(state, first, at) ? first : undefined;
}

/** It was promoted, or the ratio says that it would be. */
function starves({ beta, betaFloorMs, config: { policy } }: State, call: Call, at: number): boolean {
  const ofProgram = policy.starvation === "program" ? 1 : 0;
  const servedMs = call.servedMs + call.serviceMs;
  const waitedMs = ofProgram * call.pathWaitingMs + Math.max(0, at - call.arrivedAt - servedMs);
  const serviceMs = ofProgram * call.pathServiceMs + servedMs;
  const isDue = waitedMs - call.promotedWaitingMs >= beta * Math.max(serviceMs - call.promotedServiceMs, betaFloorMs);
  return call.promotedWaitingMs > 0 || isDue;
}

/** Who began last without room for it, and when. */
const guestBefore = new WeakMap<Engine, { guest: Call; at: number }>();

/**
 * They leave the batch, and most of the memory, to calls that have contexts, but for one that starves; how much a host
 * tier holds is left open here.
 */
function checkNewcomers(world: World, engine: Engine, newcomers: ReadonlySet<string>): void {
  const state = stateOf(world.scheduler);
  const { batchCallsMax, residentCallsMax, preemption } = engine.capacity;
  if (!keepsContexts(state, engine) || newcomers.size === 0 || preemption !== "recompute") return;
  const places = Math.min(batchCallsMax + state.config.reserveCallsMax, Math.max(1, residentCallsMax));
  const guests = engine.guest ? [engine.guest] : [];
  const others = [...newcomers].filter((id) => !guests.some((guest) => guest.id === id));
  for (const guest of guests) {
    if (newcomers.has(guest.id) && !starves(state, guest, world.at))
      throw new Error(`retained: ${guest.id} begins though it does not starve`);
    const before = guestBefore.get(engine);
    if (before?.guest === guest) continue;
    if (before && engine.has(before.guest) && world.at <= before.at + state.beta * state.betaFloorMs)
      throw new Error(`retained: ${guest.id} begins though ${before.guest.id} has the one place for such calls`);
    guestBefore.set(engine, { guest, at: world.at });
  }
  const heirs = engine.retained.heirs();
  // One that is settling has its result already.
  const started = [...state.calls.values()].filter(
    (call) => engine.has(call) && !call.cancel && call.stage === "queued",
  );
  // Of suspects only one runs; what the others leave is for newcomers.
  const suspects = [...started, ...heirs].filter((call) => call.crashes > 0).length;
  const holders = started.length - guests.length + heirs.length - Math.max(0, suspects - 1);
  if (others.length > 0 && holders > Math.max(places, 0.75 * residentCallsMax) && state.config.misfit !== "skip")
    throw new Error(`retained: ${others[0]} begins though contexts fill all places`);
}

/** Attempts that were in a plan of their engine, by incarnation. */
const plannedBefore = new WeakMap<World, Set<string>>();

interface Begun {
  begun: ReadonlySet<string>;
  /** Those without a context. */
  newcomers: ReadonlySet<string>;
}

/** Calls that begin with this plan. */
function begunBy(world: World, plan: EnginePlan): Begun {
  const before = plannedBefore.get(world) ?? new Set();
  plannedBefore.set(world, before);
  const [begun, newcomers] = [new Set<string>(), new Set<string>()];
  for (const { call, attempt, dispatch } of [...plan.run, ...plan.reserve, ...plan.keep]) {
    const name = `${plan.engine} ${plan.incarnation} ${call} ${attempt}`;
    if (!before.has(name)) {
      begun.add(call);
      // The plan that begins a call may drop the context that was kept for it.
      if (dispatch?.continues === undefined && !world.claimants.has(call)) newcomers.add(call);
    }
    before.add(name);
  }
  return { begun, newcomers };
}

/** Its own calls; and those that no engine has, when there is no other engine to take them. */
function waitingFor(state: State, engine: Engine): Call[] {
  const others = [...state.engines.values()].filter((other) => other !== engine && other.accepting);
  return others.length > 0 ? [...engine.queues] : [...engine.queues, ...state.unbound];
}

/** Every queued call is in the list of its level, and the lists are in order. */
export function checkQueues(state: State): void {
  for (const queues of [state.unbound, ...[...state.engines.values()].map((engine) => engine.queues)]) {
    for (const [level, list] of queues.levels.entries()) {
      let last: Call | undefined;
      let size = 0;
      for (const call of list) {
        if (call.level !== level || call.list !== list) throw new Error(`queues: ${call.id} is in the wrong list`);
        if (last && !outranks(last, call)) throw new Error(`queues: ${call.id} is behind ${last.id}`);
        last = call;
        size++;
      }
      if (size !== list.size) throw new Error("queues: a list has another size than it says");
    }
  }
}

/** S3: at most one agent can still write the outcome of a call that has none. */
export function checkHolders(world: World): void {
  for (const call of world.calls.keys()) {
    const record = world.records.get(call);
    if (record?.kind === "terminal") continue;
    const current = record?.seq ?? 0;
    const holders = [...world.agents.values()].filter((agent) => agent.held.get(call)?.fence === current);
    if (holders.length > 1) throw new Error(`S3: ${holders.length} agents hold the current attempt of ${call}`);
  }
}

/** Who waits does not wait for an engine that is about to leave while another one takes new calls. */
export function checkLeaving({ engines }: State): void {
  if (![...engines.values()].some((engine) => engine.accepting)) return;
  for (const { id, draining, queues } of engines.values()) {
    const waiting = draining ? [...queues].find((call) => !call.planned) : undefined;
    if (waiting) throw new Error(`leaving: ${waiting.id} waits for ${id}, which is about to leave`);
  }
}

/** S6: every leader, fed again with what it heard, says the same, byte for byte. */
export function checkReplay(world: World, config: CoreConfig): void {
  for (const { inputs, commands } of world.logs) {
    const again = new Scheduler(config);
    for (const [i, input] of inputs.entries()) {
      const said = JSON.stringify(again.apply(input));
      if (said !== commands[i]) throw new Error(`S6: input ${i} (${input.kind}) gives ${said}, not ${commands[i]}`);
    }
  }
}
