/** An agent of the small world: it holds calls, steps them, writes their outcomes under its fence, and reports. */
import type { EngineCapacity, EnginePlan, EngineReport, FinishedCall, TerminalStatus } from "../src/index.ts";
import { callId, engineId } from "../src/index.ts";
import type { World } from "./world.ts";

interface Held {
  attempt: number;
  fence: number;
  /** Service of earlier attempts. */
  servedMs: number;
  serviceMs: number;
  stage: "running" | "fenced";
  status: TerminalStatus;
}

/** Every fourth call cannot be gone on with once it has been served: what makes an engine say so is not known here. */
function isUnstoppable(call: string, held: Held): boolean {
  return held.serviceMs > 0 && Number(call.slice("t/c".length)) % 4 === 0;
}

export class WorldAgent {
  readonly id: string;
  readonly capacity: EngineCapacity;
  incarnation: string;
  readonly held = new Map<string, Held>();
  epoch = 0;
  plan: EnginePlan | undefined;
  planEpoch = 0;
  private readonly world: World;
  private finished = new Map<string, FinishedCall & { report: number }>();
  private reportNumber = 0;
  /** It takes on nothing new, and has let go of what it had not begun. */
  draining = false;

  constructor(world: World, id: string, incarnation: string, capacity: EngineCapacity) {
    this.world = world;
    this.id = id;
    this.incarnation = incarnation;
    this.capacity = capacity;
  }

  receive(plan: EnginePlan, epoch: number): void {
    if (plan.incarnation !== this.incarnation || epoch < this.epoch) return;
    if (this.plan && epoch === this.planEpoch && plan.number <= this.plan.number) return;
    this.plan = plan;
    this.planEpoch = epoch;
    this.epoch = epoch;
    for (const [key, entry] of this.finished) if (entry.report <= plan.reportSeen) this.finished.delete(key);
    for (const { call, attempt } of plan.cancel) {
      const held = this.held.get(call);
      if (held?.attempt === attempt && held.stage === "running") this.end(call, held, "cancelled");
    }
    for (const { call, attempt, fence } of plan.fences) {
      const held = this.held.get(call);
      if (held?.attempt !== attempt || held.stage !== "fenced") continue;
      if (fence === null) this.held.delete(call);
      else {
        held.fence = fence;
        this.end(call, held, held.status);
      }
    }
    const entries = [...plan.run, ...plan.reserve, ...plan.keep];
    for (const [call, held] of this.held) {
      const isNamed = entries.some((entry) => entry.call === call && entry.attempt === held.attempt);
      if (held.stage === "running" && !isNamed) this.held.delete(call);
    }
    for (const { call, attempt, dispatch } of this.draining ? [] : entries) {
      if (!dispatch || this.held.has(call) || this.held.size >= this.capacity.heldCallsMax) continue;
      if (this.finished.has(`${call}#${attempt}`)) continue;
      const held: Held = {
        attempt,
        fence: dispatch.fence,
        servedMs: dispatch.servedMs,
        serviceMs: 0,
        stage: "running",
        status: "completed",
      };
      this.held.set(call, held);
      // A redelivery is found ended and not run again.
      if (this.world.records.get(call)?.kind === "terminal") this.end(call, held, "completed");
    }
  }

  drain(): void {
    this.draining = true;
    for (const [call, held] of this.held) if (held.stage === "running" && held.serviceMs === 0) this.held.delete(call);
  }

  /** One step of the batch: `ms` of service for each call in it. */
  step(ms: number): void {
    const batch = [...(this.plan?.run ?? []), ...(this.plan?.reserve ?? [])]
      .filter(({ call, attempt }) => {
        const held = this.held.get(call);
        return held?.attempt === attempt && held.stage === "running";
      })
      .slice(0, this.capacity.batchCallsMax);
    for (const { call } of batch) {
      const held = this.held.get(call);
      if (!held) continue;
      held.serviceMs += ms;
      if (held.serviceMs >= this.world.needOf(call)) this.end(call, held, "completed");
    }
  }

  /** S4: the record decides, not this agent. */
  private end(call: string, held: Held, status: TerminalStatus): void {
    held.status = status;
    const contextTokens = this.world.tokensOf(call) + held.serviceMs;
    const serviceMs = held.servedMs + held.serviceMs;
    const waitingMs = Math.max(0, this.world.at - this.world.arrivedAtOf(call) - serviceMs);
    const result = this.world.writeTerminal(call, held.fence, { serviceMs, waitingMs, contextTokens });
    if (result === "fenced") {
      held.stage = "fenced";
      return;
    }
    this.held.delete(call);
    const found = result === "ended";
    if (!found) {
      this.world.endedTokens.set(call, contextTokens);
      this.world.endedOn.set(call, `${this.id} ${this.incarnation}`);
    }
    this.finished.set(`${call}#${held.attempt}`, {
      call: callId(call),
      attempt: held.attempt,
      status,
      found,
      serviceMs,
      waitingMs,
      ...(found ? {} : { contextTokens }),
      report: this.reportNumber + 1,
    });
  }

  report(): { report: EngineReport; planEpoch: number } {
    const calls = [...this.held].filter(([, held]) => held.stage === "running");
    const fenced = [...this.held].filter(([, held]) => held.stage === "fenced");
    return {
      planEpoch: this.planEpoch,
      report: {
        engine: engineId(this.id),
        incarnation: this.incarnation,
        number: ++this.reportNumber,
        planNumber: this.plan?.number ?? 0,
        calls: calls.map(([call, held]) => ({
          call: callId(call),
          attempt: held.attempt,
          serviceMs: held.serviceMs,
          contextTokens: this.world.tokensOf(call) + held.serviceMs,
          ...(isUnstoppable(call, held) ? { preemptible: false as const } : {}),
        })),
        finished: [...this.finished.values()],
        fenced: fenced.map(([call, { attempt }]) => ({ call: callId(call), attempt })),
        ...(this.draining ? { draining: true } : {}),
      },
    };
  }
}
