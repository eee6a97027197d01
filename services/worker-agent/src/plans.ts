/** Which plans count, and what one changes: it is the whole desired state of the engine (design §5). */
import type { Plan, PlanCall } from "@autellix/protocol";
import type { Candidate, Candidates } from "./batch.ts";
import type { Contexts, Retained } from "./contexts.ts";
import type { Endings } from "./endings.ts";
import { attemptName, type HeldCall } from "./held-call.ts";
import { cancelled } from "./outcome.ts";
import type { Reports } from "./reports.ts";
import type { Starts } from "./starts.ts";
import type { AgentState } from "./state.ts";

export interface PlannedCall extends Candidate {
  call: HeldCall;
  /** Whose context it is: an ended call's, as long as this one is not opened and goes on from it. */
  owner: HeldCall | Retained;
}

export class Plans {
  readonly #state: AgentState;
  readonly #contexts: Contexts;
  readonly #reports: Reports;
  readonly #starts: Starts;
  readonly #endings: Endings;

  constructor(state: AgentState, parts: { contexts: Contexts; reports: Reports; starts: Starts; endings: Endings }) {
    this.#state = state;
    this.#contexts = parts.contexts;
    this.#reports = parts.reports;
    this.#starts = parts.starts;
    this.#endings = parts.endings;
  }

  /** A new leader has asked: plans of lower epochs are refused from here on (S5). */
  adopt(epoch: number): void {
    if (epoch <= this.#state.epoch) return;
    this.#state.epoch = epoch;
    this.#state.traces?.tookOver(epoch);
  }

  receive(plan: Plan): void {
    const refusal = this.#refusal(plan);
    if (refusal !== undefined) {
      const fields = { epoch: plan.epoch, plan: plan.number, reason: refusal };
      this.#state.emit({ kind: "log", level: "debug", fields, msg: "plan refused" });
      return;
    }
    this.#state.plan = plan;
    this.adopt(plan.epoch);
    this.#state.traces?.received(plan);
    this.#reports.planSeen(plan.reportSeen, this.#brings(plan));
    for (const { call, attempt, cause } of plan.cancel) {
      const held = this.#state.heldByName.get(attemptName(call, attempt));
      if (held !== undefined) this.#endings.end(held, cancelled(cause));
    }
    if (plan.fences) this.#endings.fencesAnswered(plan.fences);
    const entries = [...plan.run, ...plan.reserve, ...plan.keep];
    this.#drop(entries);
    this.#note(entries);
    if (this.#state.draining === "no" && this.#reports.hasRoom()) this.#takeOn(entries);
    this.#contexts.planned(plan);
  }

  /** Whether something of its batch has not ended. */
  #brings({ run }: Plan): boolean {
    return run.some(({ call, attempt }) => {
      const name = attemptName(call, attempt);
      return !this.#reports.isFinished(name) && this.#state.heldByName.get(name)?.phase !== "ending";
    });
  }

  #refusal(plan: Plan): string | undefined {
    const { setup, plan: inForce, epoch } = this.#state;
    if (plan.pool !== setup.pool || plan.engine !== setup.engine) return "for another engine";
    if (plan.incarnation !== setup.incarnation) return "for another incarnation";
    if (plan.epoch < epoch) return "of a lower epoch";
    if (inForce && plan.epoch === inForce.epoch && plan.number <= inForce.number) return "not newer";
    return undefined;
  }

  /** What the plan does not name is closed without an outcome; a result that is being stored goes on. */
  #drop(entries: readonly PlanCall[]): void {
    const named = new Set(entries.map(({ call, attempt }) => attemptName(call, attempt)));
    for (const call of this.#state.held.values()) {
      if (call.phase === "ending" || named.has(call.name)) continue;
      this.#state.remove(call);
      // The scheduler may give it to another engine once it has read that this one let go of it.
      this.#reports.want();
    }
  }

  /** The queues of traced calls, which a plan may have changed. */
  #note(entries: readonly PlanCall[]): void {
    if (!this.#state.traces) return;
    for (const { call, attempt, level } of entries) {
      if (level === undefined) continue;
      const timeline = this.#state.heldByName.get(attemptName(call, attempt))?.timeline;
      if (timeline) timeline.level = level;
    }
  }

  #takeOn(entries: readonly PlanCall[]): void {
    for (const { call, attempt, dispatch, level } of entries) {
      // Without `dispatch` it cannot be run; the report lacks it, and the scheduler sends the rest again.
      if (dispatch === undefined || this.#state.held.size >= this.#state.setup.info.heldCallsMax) continue;
      const name = attemptName(call, attempt);
      if (!this.#state.heldByName.has(name) && !this.#reports.isFinished(name)) {
        this.#starts.hold(call, attempt, dispatch, level);
      }
    }
  }

  /** The plan in force, as far as its calls are held and not ended. */
  candidates(): Candidates<PlannedCall> {
    const { plan } = this.#state;
    if (plan === undefined) return { slots: 0, run: [], reserve: [], keep: [] };
    const mayBegin = this.#state.mayBegin();
    const owners = new Set<HeldCall | Retained>();
    const list = (entries: Plan["keep"]) => this.#candidatesOf(entries, owners, mayBegin);
    return { slots: plan.run.length, run: list(plan.run), reserve: list(plan.reserve), keep: list(plan.keep) };
  }

  #candidatesOf(entries: Plan["keep"], owners: Set<HeldCall | Retained>, mayBegin: boolean): PlannedCall[] {
    const found: PlannedCall[] = [];
    for (const entry of entries) {
      const call = this.#state.heldByName.get(attemptName(entry.call, entry.attempt));
      if (call === undefined || call.phase === "ending") continue;
      const ended = this.#contexts.continuedBy(call);
      // Who comes first in the plan goes on from it.
      const owner = ended === undefined || owners.has(ended) ? call : ended;
      owners.add(owner);
      const { contextTokens, hostTokens, swapRefused } = owner;
      found.push({
        call,
        owner,
        ready: call.phase === "ready" && (call.stepped || mayBegin),
        comes: call.phase !== "ready" && call.fetchAsked && !call.stuck && mayBegin,
        stays: call.stepped && !call.preemptible,
        neededTokens: call.neededTokens,
        tier: entry.tier,
        ...{ contextTokens, hostTokens, swapRefused },
      });
    }
    return found;
  }
}
