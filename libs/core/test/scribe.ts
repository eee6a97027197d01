/** Writes down what happens in a story: one line for each event, with its time. */
import type { Call } from "../src/call.ts";
import type { Command, CoreConfig, EnginePlan, Millis, PlannedCall, Scheduler } from "../src/index.ts";
import { stateOf } from "./checkers.ts";

export class Scribe {
  at: Millis = 0;
  /** While it is true nothing is written down. */
  quiet = false;
  /** The calls of each window's batches. */
  readonly batches: string[] = [];
  private readonly scheduler: Scheduler;
  private readonly config: CoreConfig;
  private readonly lines: string[] = [];
  /** Last plan by engine, as it was written down. */
  private readonly plans = new Map<string, string>();
  /** The batch of the last line, when that says nothing but who was served. */
  private lastServed: { batch: string; from: Millis } | undefined;

  constructor(scheduler: Scheduler, config: CoreConfig) {
    this.scheduler = scheduler;
    this.config = config;
  }

  text(): string {
    return `${this.lines.join("\n")}\n`;
  }

  say(line: string): void {
    this.lines.push(line);
    this.lastServed = undefined;
  }

  note(what: string, text: string): void {
    if (!this.quiet) this.say(`${String(this.at).padStart(5)}  ${what.padEnd(9)} ${text}`);
  }

  /** Windows with the same batch, one after the other, make one line. */
  served(served: ReadonlyMap<string, string>): void {
    if (served.size === 0) return;
    const batch = [...served.keys()].join(" ");
    this.batches.push(batch);
    if (this.quiet) return;
    const goesOn = this.lastServed?.batch === batch ? this.lastServed : undefined;
    const from = goesOn?.from ?? this.at - this.config.windowSteps;
    if (goesOn) this.lines.pop();
    this.note("served", `${[...served.values()].join(", ")} (since ${from})`);
    this.lastServed = { batch, from };
  }

  moved(call: Call, before: number): void {
    if (call.level === before || !call.list) return;
    const way = `${call.id} from Q${before + 1} to the tail of Q${call.level + 1}`;
    if (call.level > before) {
      this.note("demoted", way);
      return;
    }
    const thread = this.scheduler.threads(call.program.id, this.at).find((other) => other.call === call.id);
    this.note("promoted", `${way}: its own waiting ${thread?.waitingMs}, service ${thread?.serviceMs}`);
  }

  command(command: Command): void {
    if (command.kind === "sendPlan") this.plan(command.plan);
    else if (command.kind === "writeMarker") {
      this.note("marker", `${command.call}, attempt ${command.attempt} (${command.cause})`);
    } else if (command.kind === "saveEntry") {
      const { program, serviceMs, waitingMs, attained, charged } = command.entry;
      const last = charged.at(-1);
      if (last === undefined) return;
      this.note("ended", `${last} · ${program}: service ${serviceMs}, waiting ${waitingMs}, attained ${attained}`);
    }
  }

  private plan(plan: EnginePlan): void {
    const kept = plan.keep.map(({ call, tier }) => `${call} (${tier})`);
    const retained = plan.retained.map(({ call, tier }) => `${call} (${tier})`);
    const lists = [`run ${listed(plan.run)}`];
    if (this.config.reserveCallsMax > 0) lists.push(`reserve ${listed(plan.reserve)}`);
    if (kept.length > 0) lists.push(`keep ${kept.join(" ")}`);
    if (retained.length > 0) lists.push(`retained ${retained.join(" ")}`);
    const text = [...lists, ...this.queues(plan)].join(" | ");
    // The same again, because its agent had not shown that it has it.
    if (text === this.plans.get(plan.engine)) return;
    this.plans.set(plan.engine, text);
    this.note(`plan ${plan.engine}`, text);
  }

  private queues({ engine }: EnginePlan): string[] {
    const levels = stateOf(this.scheduler).engines.get(engine)?.queues.levels ?? [];
    return levels.flatMap((level, i) =>
      level.size > 0 ? [`Q${i + 1}: ${[...level].map((call) => call.id).join(" ")}`] : [],
    );
  }
}

function listed(planned: readonly PlannedCall[]): string {
  const names = planned.map(({ call, dispatch }) => (dispatch?.continues ? `${call}←${dispatch.continues}` : call));
  return names.join(" ") || "–";
}
