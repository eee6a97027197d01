/**
 * When what happened to one traced call on this engine: the material of its spans. Times are the agent's. It grows with
 * the number of stays and swaps only, both bounded: what happens after the last one that fits lengthens that one.
 */
import type { Swap } from "@autellix/engines";
import type { SpanAttributes, Traced } from "@autellix/protocol";

/** Stays and swaps of one holding that are shown one by one. */
export const STAYS_MAX = 16;
export const SWAPS_MAX = 32;
/** Windows of one stay that are shown; when there are more, every second one is. */
export const WINDOWS_MAX = 16;
/** Take-overs that a call is shown to have lived through. */
const EPOCHS_MAX = 8;

/** N steps of a stay. */
export interface Window {
  atMs: number;
  /** All since the stay began. */
  steps: number;
  serviceMs: number;
  completionTokens: number;
  /** Calls of the last step's batch. */
  batchCalls: number;
}

/** From the first step of the call until it left the batch or ended. */
export interface Stay {
  level: number | undefined;
  fromMs: number;
  /** Undefined while it lasts. */
  toMs: number | undefined;
  /** Begin of the last step that evaluated prompt tokens, and when it was through: what follows is decoding. */
  prefilledToMs: number | undefined;
  prefilledTokens: number;
  /** Its context was dropped before: what is evaluated was evaluated before. */
  recomputes: boolean;
  steps: number;
  serviceMs: number;
  tokensFrom: number;
  tokensTo: number;
  batchCallsMax: number;
  windows: Window[];
  /** Stays after it that did not fit. */
  merged: number;
}

export interface TimedSwap {
  way: "out" | "in";
  /** The stay that it follows. */
  stay: number;
  fromMs: number;
  toMs: number;
  bytes: number;
  tokens: number;
}

export interface StepOf {
  durationMs: number;
  prefilledTokens: number;
  tokens: number;
  completionTokens: number;
  batchCalls: number;
}

export class Timeline {
  readonly traced: Traced;
  readonly receivedAtMs: number;
  /** The engine had counted its tokens. */
  openedAtMs: number | undefined;
  firstTokenAtMs: number | undefined;
  /** It generated nothing more; its record is being stored. */
  generatedAtMs: number | undefined;
  /** What its body asks for. */
  request: SpanAttributes = {};
  /** Whose answers its messages end with. */
  tools: readonly string[] = [];
  readonly stays: Stay[] = [];
  readonly swaps: TimedSwap[] = [];
  readonly epochs: { epoch: number; atMs: number }[] = [];
  /** As the plan in force has it. */
  level: number | undefined;
  swapsOmitted = 0;
  #isEvicted = false;
  #windowEvery: number;
  readonly #windowSteps: number;

  constructor(traced: Traced, level: number | undefined, receivedAtMs: number, windowSteps: number) {
    this.traced = traced;
    this.level = level;
    this.receivedAtMs = receivedAtMs;
    this.#windowSteps = windowSteps;
    this.#windowEvery = windowSteps;
  }

  /** It is in the step that begins. */
  running(atMs: number, completionTokens: number): void {
    const last = this.stays.at(-1);
    if (last && last.toMs === undefined) return;
    if (last && this.stays.length >= STAYS_MAX) {
      last.toMs = undefined;
      last.merged++;
      return;
    }
    this.#windowEvery = this.#windowSteps;
    this.stays.push({
      level: this.level,
      fromMs: atMs,
      toMs: undefined,
      prefilledToMs: undefined,
      prefilledTokens: 0,
      recomputes: this.#isEvicted && last !== undefined,
      steps: 0,
      serviceMs: 0,
      tokensFrom: completionTokens,
      tokensTo: completionTokens,
      batchCallsMax: 0,
      windows: [],
      merged: 0,
    });
    this.#isEvicted = false;
  }

  stepped(atMs: number, step: StepOf): void {
    const stay = this.stays.at(-1);
    if (!stay || stay.toMs !== undefined) return;
    stay.steps++;
    stay.serviceMs += step.durationMs;
    stay.batchCallsMax = Math.max(stay.batchCallsMax, step.batchCalls);
    if (step.prefilledTokens > 0) {
      stay.prefilledTokens += step.prefilledTokens;
      stay.prefilledToMs = atMs;
    }
    if (step.tokens > 0) this.firstTokenAtMs ??= atMs;
    stay.tokensTo = step.completionTokens;
    if (stay.steps % this.#windowEvery === 0) this.#window(stay, atMs, step);
  }

  #window(stay: Stay, atMs: number, { completionTokens, batchCalls }: StepOf): void {
    const { steps, serviceMs } = stay;
    stay.windows.push({ atMs, steps, serviceMs, completionTokens, batchCalls });
    if (stay.windows.length <= WINDOWS_MAX) return;
    stay.windows = stay.windows.filter((_, index) => index % 2 === 1);
    this.#windowEvery *= 2;
  }

  generated(atMs: number): void {
    this.generatedAtMs = atMs;
    this.left(atMs);
  }

  /** It left the batch, or generates nothing more. */
  left(atMs: number): void {
    const stay = this.stays.at(-1);
    if (stay && stay.toMs === undefined) stay.toMs = atMs;
  }

  evicted(): void {
    this.#isEvicted = true;
  }

  swapped(way: "out" | "in", toMs: number, { durationMs, bytes, tokens }: Swap): void {
    if (this.swaps.length >= SWAPS_MAX) {
      this.swapsOmitted++;
      return;
    }
    this.swaps.push({ way, stay: this.stays.length - 1, fromMs: toMs - durationMs, toMs, bytes, tokens });
  }

  /** Another leader leads. */
  tookOver(epoch: number, atMs: number): void {
    if (this.epochs.length < EPOCHS_MAX) this.epochs.push({ epoch, atMs });
  }
}
