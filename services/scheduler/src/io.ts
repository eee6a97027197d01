/** What every part of the adapter shares. */
import type { Bus } from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import type { Event } from "./events.ts";

export interface Io {
  readonly bus: Bus;
  readonly pool: string;
  readonly log: Logger;
  /** The epoch that this process leads in; 0 before it leads. */
  readonly epoch: number;
  readonly stopped: boolean;
  /** Turns an answer into an event. */
  receive(event: Event): void;
  /** Ends the process: another leads. */
  stepDown(reason: string): void;
}

/** Pause before something that had no answer is tried again. */
export const PAUSE_MS = 250;

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
