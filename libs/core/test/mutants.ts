/** Bugs that somebody could make, each a small change of the text of `src`, and the checks that must find them. */

export interface Mutant {
  bug: string;
  /** File in `src`; `find` is there exactly once, so that a mutant cannot rot. */
  file: string;
  find: string;
  replace: string;
  /** What each of these checks must say. */
  caughtBy: Readonly<Record<string, RegExp>>;
}

const ANY_WORLD = "law any world";
/** A golden text is another one. */
const DIFFERS = /strictly equal/;

const promotion: readonly Mutant[] = [
  {
    bug: "the ratio has the wrong counter: the program's sum of service instead of its longest chain at arrival",
    file: "starvation.ts",
    find: "(ofProgram ? call.pathServiceMs : 0)",
    replace: "(ofProgram ? call.program.serviceMs : 0)",
    caughtBy: { [ANY_WORLD]: /^S10: .* has waited/, "golden gap-critical-path-waiting": DIFFERS },
  },
  {
    bug: "promotion zeroes the program's lifetime counter, which the table still needs",
    file: "starvation.ts",
    find: "state.totals.promotions++;",
    replace: "state.totals.promotions++;\n  call.program.serviceMs = 0;",
    caughtBy: { [ANY_WORLD]: /^S8: serviceMs of .* falls/, "golden alg1-promotion": DIFFERS },
  },
  {
    bug: "the call's own waiting goes on from before its promotion",
    file: "starvation.ts",
    find: "call.promotedWaitingMs = waitedMs(call, at);",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^S10: .* is promoted after/, "golden alg1-promotion": DIFFERS },
  },
  {
    bug: "who was served meanwhile is not looked at again, and starves",
    file: "starvation.ts",
    find: "  awaitAt(state, call, dueAt);\n  return undefined;",
    replace: "  return undefined;",
    caughtBy: { "golden alg1-promotion-later": DIFFERS },
  },
  {
    bug: "a promoted call keeps its place instead of going to the tail of Q1",
    file: "starvation.ts",
    find: "call.order = order;",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^Alg\. 1: .* is not at the tail of Q1/ },
  },
  {
    bug: "all that starve are promoted at once, whatever the share",
    file: "starvation.ts",
    find: "return Math.max(1, Math.floor(promotedShare * capacity.batchCallsMax));",
    replace: "return promotedShare + capacity.batchCallsMax + 1_000;",
    caughtBy: { [ANY_WORLD]: /^S10: .* is promoted as one of/, "golden gap-places-of-promoted": DIFFERS },
  },
  {
    bug: "a promoted call takes no place from others",
    file: "starvation.ts",
    find: "state.queuesOf(call).promoted.add(call);",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^S10: .* has no place for it/, "golden gap-places-of-promoted": DIFFERS },
  },
  {
    bug: "a promoted call that ends keeps its place",
    file: "state.ts",
    find: "    this.forget(call);\n",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^S10: .* has left and keeps a place/, "golden gap-places-of-promoted": DIFFERS },
  },
  {
    bug: "a demoted call that does not starve any more keeps its place",
    file: "starvation.ts",
    find: "  state.queuesOf(call).promoted.delete(call);\n",
    replace: "",
    caughtBy: { "golden gap-places-of-promoted": DIFFERS },
  },
  {
    bug: "a promoted call between two attempts leaves its place to others, and comes back for it",
    file: "starvation.ts",
    find: "let left = -state.unbound.promoted.size;",
    replace: "let left = 0;",
    caughtBy: { [ANY_WORLD]: /^S10: .* is promoted (where others|as one of)/ },
  },
  {
    bug: "who waits for such a place is forgotten when its engine is lost",
    file: "queues.ts",
    find: "if (order !== undefined) to.starving.add(call, order);",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^S10: .* (has waited|is promoted as one of)/ },
  },
];

const levels: readonly Mutant[] = [
  {
    bug: "the quantum is not fresh after a demotion",
    file: "agents.ts",
    find: "call.service.quantumUsed = 0;",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^Alg\. 1: .* has no fresh quantum/, "golden alg1-quantum": DIFFERS },
  },
  {
    bug: "the ranges of the levels are closed",
    file: "ladder.ts",
    find: "service < level.hi",
    replace: "service <= level.hi",
    caughtBy: { [ANY_WORLD]: /^Alg\. 1: .* inherits .* and enters/, "golden alg1-enter-level": DIFFERS },
  },
  {
    bug: "a call of QK goes to its tail",
    file: "agents.ts",
    find: 'isLast && state.config.policy.lastLevel === "stays"',
    replace: "false",
    caughtBy: { "golden alg1-last-level": DIFFERS },
  },
];

const table: readonly Mutant[] = [
  {
    bug: "an end that is reported again is charged again",
    file: "table.ts",
    find: "if (entry.ended?.has(call.id)) return false;",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^S8: .* is charged twice/, "golden gap-redelivery": DIFFERS },
  },
  {
    bug: "the scalar of ATLAS adds up what ran in parallel",
    file: "policies.ts",
    find: "Math.max(program.attained, inherited + served)",
    replace: "program.attained + served + 0 * inherited",
    caughtBy: { "golden fig9-critical-path-first": DIFFERS, "golden gap-scalar-or-graph": DIFFERS },
  },
  {
    bug: "the call graph forgets what a parent had inherited",
    file: "table.ts",
    find: "remember(entry, call.id, call.inherited + served);",
    replace: "remember(entry, call.id, served);",
    caughtBy: {
      "law plas, atlas and atlas-dag are one on chains": /deep-equal/,
      "golden gap-scalar-or-graph": DIFFERS,
    },
  },
];

const engines: readonly Mutant[] = [
  {
    bug: "an engine that is about to leave gets new calls",
    file: "engine.ts",
    find: "return !this.suspected && !this.draining;",
    replace: "return !this.suspected;",
    caughtBy: { [ANY_WORLD]: /^leaving: .* (?:begins on|waits for)/ },
  },
  {
    bug: "who waits for an engine that is about to leave stays there",
    file: "agents.ts",
    find: "  if (leaves) moveOn(state);\n",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^leaving: .* waits for/ },
  },
  {
    bug: "a pin stays when its engine has left",
    file: "state.ts",
    find: "for (const entry of this.table.all()) if (entry.pin === engine.id) entry.pin = undefined;",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^Alg\. 2: .* is pinned/, "golden alg2-pin-dropped": DIFFERS },
  },
  {
    bug: "the walk goes on behind a call that does not fit",
    file: "batch.ts",
    find: 'rules.misfit === "skip" ? SKIPPED_CALLS_MAX : 0',
    replace: "SKIPPED_CALLS_MAX",
    caughtBy: { [ANY_WORLD]: /^S9: .* waits and outranks/, "golden alg1-strict-stop": DIFFERS },
  },
];

const memory: readonly Mutant[] = [
  {
    bug: "the blocks of a retained context are freed twice",
    file: "retained.ts",
    find: "this.engineBlocks += sign * context.blocks;",
    replace: "this.engineBlocks += (sign < 0 ? 2 : 1) * sign * context.blocks;",
    caughtBy: { [ANY_WORLD]: /^S7: \d+ of \d+ blocks$/ },
  },
  {
    bug: "the host tier has no limit for parked contexts",
    file: "batch.ts",
    find: 'if (tier === "host" && blocks > hostLeft) tier = "none";',
    replace: "",
    caughtBy: { [ANY_WORLD]: /host/, "golden kv-host-full": DIFFERS },
  },
  {
    bug: "a retained context is given to a call and kept for another",
    file: "retained.ts",
    find: "  call.continues = context.call;\n  engine.retained.remove(context);",
    replace: "  call.continues = context.call;",
    caughtBy: { [ANY_WORLD]: /^retained: .* (has two owners|does not wait)/ },
  },
  {
    bug: "a context is kept for a call that waits no more",
    file: "state.ts",
    find: "    unclaim(call);\n",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^retained: .* does not wait|^retained: .* runs before/ },
  },
  {
    bug: "calls without contexts push out those of calls that wait",
    file: "batch.ts",
    find: "return Math.max(this.placesMax, Math.floor(CALLS_SHARE * contextsMax)) - holders;",
    replace: "return this.placesMax;",
    caughtBy: { [ANY_WORLD]: /^retained: .* begins though contexts fill all places/ },
  },
  {
    bug: "calls without contexts are passed for ever",
    file: "batch.ts",
    find: "return isFree && rules.starves(call);",
    replace: "return false;",
    caughtBy: { [ANY_WORLD]: /^S9: .* waits and outranks/ },
  },
  {
    bug: "all calls that starve push out contexts at once",
    file: "batch.ts",
    find: "return isFree && rules.starves(call);",
    replace: "return rules.starves(call);",
    caughtBy: { [ANY_WORLD]: /^retained: .* begins though / },
  },
  {
    bug: "a context that a queued call waits for is worth no more than others",
    file: "retained.ts",
    find: "  if (a.heir || b.heir) return a.heir ? -1 : 1;\n",
    replace: "",
    caughtBy: { [ANY_WORLD]: /^retained: .* behind one that nobody waits for/ },
  },
];

export const mutants: readonly Mutant[] = [...promotion, ...levels, ...table, ...engines, ...memory];
