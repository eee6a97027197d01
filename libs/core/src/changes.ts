/**
 * What has changed since somebody looked, while somebody watches: kept beside the state, never part of a decision. A
 * watcher that is too slow is told to read everything again, so the memory is bounded.
 */
import type { Call } from "./call.ts";
import type { Engine } from "./engine.ts";
import type { ProgramEntry } from "./table.ts";

/** Changed calls and programs that wait to be looked at; above it all are forgotten, and `lost` says so. */
export const CHANGED_MAX = 50_000;

export class Changes {
  readonly calls = new Set<Call>();
  readonly programs = new Set<ProgramEntry>();
  readonly engines = new Set<Engine>();
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

  /** A new batch: who entered it and who left it. Equal places are equal calls mostly, so this costs one pass. */
  batch(before: readonly Call[], after: readonly Call[]): void {
    const length = Math.max(before.length, after.length);
    for (let place = 0; place < length; place++) {
      const [old, young] = [before[place], after[place]];
      if (old === young) continue;
      if (old) this.call(old);
      if (young) this.call(young);
    }
  }

  private forget(): void {
    this.calls.clear();
    this.programs.clear();
    this.lost = true;
  }
}
