/** What must hold in the small world at every moment, and at every plan. Numbers are those of design §4. */
import type { CoreConfig, EnginePlan } from "../src/index.ts";
import { Scheduler } from "../src/index.ts";
import { byRank } from "../src/queues.ts";
import type { State } from "../src/state.ts";
import type { World } from "./world.ts";

export function stateOf(scheduler: Scheduler): State {
  return (scheduler as unknown as { state: State }).state;
}

/** S3, S7 and S9 of a plan, at the moment it is made. */
export function checkPlan(world: World, plan: EnginePlan): void {
  const state = stateOf(world.scheduler);
  const engine = state.engines.get(plan.engine);
  if (!engine) throw new Error(`a plan for ${plan.engine}, which is not there`);
  const { capacity } = engine;
  const planned = [...engine.run, ...engine.reserve];

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

  const blocks = planned.reduce((sum, call) => sum + engine.blocksOf(call, plan.windowSteps), 0);
  if (blocks > capacity.kvBlocks) throw new Error(`S7: ${blocks} of ${capacity.kvBlocks} blocks`);
  if (plan.run.length > capacity.batchCallsMax) throw new Error("S7: the batch is too large");
  if (planned.length > capacity.residentCallsMax) throw new Error("S7: too many contexts");
  if (planned.filter((call) => call.crashes > 0).length > 1) throw new Error("two suspects in one batch");

  if (capacity.preemption === "none") return;
  const hasSuspect = planned.some((call) => call.crashes > 0);
  const admits = state.admitsNew && engine.accepting && engine.started.size < capacity.heldCallsMax;
  for (const waiting of engine.queues.walk()) {
    if (planned.includes(waiting) || waiting.mayHaveRun || (waiting.crashes > 0 && hasSuspect)) continue;
    if (!engine.started.has(waiting) && !admits) continue;
    const outranked = planned.find((member) => byRank(waiting, member) < 0);
    if (outranked) throw new Error(`S9: ${waiting.id} waits and outranks ${outranked.id}`);
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
