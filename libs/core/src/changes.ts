/**
 * What has changed since somebody looked, while somebody watches: kept beside the state, never part of a decision. A
 * watcher that is too slow is told to read everything again, so the memory is bounded.
 */
import type { Call } from "./call.ts";
import type { Engine } from "./engine.ts";
import type { ProgramEntry } from "./table.ts";

/** Changed calls and programs that wait to be looked at; above it all are forgotten, and `lost` says so. */
export const CHANGED_MAX = 50_000;

type Lists = Pick<Engine, "run" | "reserve" | "keep">;

export class Changes {
  readonly calls = new Set<Call>();
  readonly programs = new Set<ProgramEntry>();
  /** With the batch that it had at the last look. */
  readonly engines = new Map<Engine, Lists>();
  /** Some were forgotten since the last look. */
  lost = false;

  /** A call's state, and with it what its program shows. */
  call(call: Call): void {
    this.calls.add(call);
    this.program(call.program);
  }

  program(entry: ProgramEntry): void {
    this.programs.add(entry);
    if (this.calls.size + this.programs.size > CHANGED_MAX) this.forget();
  }

  /** Something that the engine shows; said before it gets a new batch. Planning pays for no more than this. */
  engine(engine: Engine): void {
    if (!this.engines.has(engine)) this.engines.set(engine, listsOf(engine));
  }

  /** At a look: who entered a list of a batch, and who left one, since the last look. */
  settle(): void {
    for (const [engine, before] of this.engines) {
      const now = listsOf(engine);
      for (const list of ["run", "reserve", "keep"] as const) {
        for (const call of missingIn(now[list], before[list])) this.call(call);
        for (const call of missingIn(before[list], now[list])) this.call(call);
      }
      this.engines.set(engine, now);
    }
  }

  private forget(): void {
    this.calls.clear();
    this.programs.clear();
    this.lost = true;
  }
}

function missingIn(list: readonly Call[], calls: readonly Call[]): readonly Call[] {
  const listed = new Set(list);
  return calls.filter((call) => !listed.has(call));
}

function listsOf({ run, reserve, keep }: Engine): Lists {
  return { run, reserve, keep };
}
