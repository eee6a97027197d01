/** What the core was fed, as lines of an input log (`AUTELLIX_INPUT_LOG`): enough to make the same commands again (S6). */
import { BETA, BETA_FLOOR_MS, type Command, type CoreConfig, type Input, PROMOTED_SHARE } from "@autellix/core";
import { commandDigest, formatInputLog, INPUT_LOG_VERSION, type InputLogHeader } from "@autellix/protocol/input-log";

/** Hears each input of the core, and each answer, in their order. */
export interface InputSink {
  /** Before the core reads it. */
  fed(input: Input): void;
  /** What the core made of it. */
  answered(commands: readonly Command[]): void;
}

/** Several that hear the same. @returns undefined when there is none. */
export function allSinks(...sinks: readonly (InputSink | undefined)[]): InputSink | undefined {
  const present = sinks.filter((sink) => sink !== undefined);
  if (present.length <= 1) return present[0];
  return {
    fed(input) {
      for (const sink of present) sink.fed(input);
    },
    answered(commands) {
      for (const sink of present) sink.answered(commands);
    },
  };
}

/** Takes a line. @returns false when the recording is over. */
export type WriteLine = (line: string) => boolean;

/** Makes lines; where they go is not its business. */
export class InputRecorder implements InputSink {
  readonly #write: WriteLine;
  #records: boolean;
  /** An input that the core has not answered yet: text already, so that nothing can change it. */
  #input: string | undefined;

  constructor(pool: string, epoch: number, config: CoreConfig, write: WriteLine) {
    this.#write = write;
    this.#records = write(formatInputLog(headerOf(pool, epoch, config)));
  }

  fed(input: Input): void {
    if (this.#records) this.#input = formatInputLog(input);
  }

  answered(commands: readonly Command[]): void {
    if (this.#input === undefined) return;
    this.#records = this.#write(`{"input":${this.#input},"commands":${JSON.stringify(commands.map(commandDigest))}}`);
    this.#input = undefined;
  }

  /** The core threw: its last input is the one to look at. Nothing when the core has answered. */
  threw(): void {
    if (this.#input !== undefined) this.#write(`{"input":${this.#input},"threw":true}`);
    this.#input = undefined;
  }
}

function headerOf(pool: string, epoch: number, { policy, balancer, ladder, ...rest }: CoreConfig): InputLogHeader {
  return {
    log: "autellix-inputs",
    version: INPUT_LOG_VERSION,
    pool,
    epoch,
    config: {
      // What is left to the core is recorded, too: another version may choose otherwise.
      binding: "arrival",
      misfit: "stop",
      beta: BETA,
      betaFloorMs: BETA_FLOOR_MS,
      promotedShare: PROMOTED_SHARE,
      ...rest,
      policy: policy.name,
      balancer: balancer.name,
      ladder: "first" in ladder ? ladder : [...ladder],
    },
  };
}
