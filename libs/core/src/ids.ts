/** Branded ids: a program id cannot be passed where a call id is meant. The core never looks inside one. */

declare const brand: unique symbol;
type Branded<B extends string> = string & { readonly [brand]: B };

/** `<tenant>/<callId>`. */
export type CallId = Branded<"call">;
/** `<tenant>/<program>`: a client's claim is namespaced by its tenant. */
export type ProgramId = Branded<"program">;
export type EngineId = Branded<"engine">;

/**
 * Milliseconds on the leader's clock, which only moves forward inside an epoch. Its zero is the stream's clock, so
 * that arrival times and saved table entries mean the same in every epoch.
 */
export type Millis = number;

export const callId = (text: string): CallId => text as CallId;
export const programId = (text: string): ProgramId => text as ProgramId;
export const engineId = (text: string): EngineId => text as EngineId;
