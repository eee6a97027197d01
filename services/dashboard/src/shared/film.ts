/** A film: one run of a scheduler, as the changes that a page would have been told. A page plays it at any speed. */
import type { ViewPool } from "@autellix/protocol/view";
import type { PoolChanges } from "./pool-model.ts";

/** What one side of the replay shows. */
export type FilmAsk =
  | {
      kind: "workload";
      workload: string;
      policy: string;
      programs: number;
      ratePerS: number;
      seed: number;
      engines: number;
      preset: string;
    }
  /** As it was recorded. */
  | { kind: "recording"; recording: string }
  /** The traffic of a recording, under another policy, on the simulator. */
  | { kind: "resimulated"; recording: string; policy: string; preset: string };

export interface Film {
  title: string;
  policy: string;
  /** Virtual time of the first and last frame. ms */
  fromMs: number;
  toMs: number;
  pool: ViewPool;
  /** In the order of `atMs`. */
  frames: PoolChanges[];
  /** Programs with their response times, for the table of results. ms */
  results: FilmResult[];
  /** The recording goes on behind the film's end, which is where it became too long. */
  isCut: boolean;
}

export interface FilmResult {
  program: string;
  arrivedAtMs: number;
  /** Undefined: it had not ended. */
  endedAtMs?: number;
  calls: number;
}

export interface Recording {
  name: string;
  /** `recorded`: by `npm start` or a demo. `uploaded`: from a page. */
  kind: "recorded" | "uploaded";
  policy: string;
  pool: string;
  bytes: number;
  modifiedAtMs: number;
}

export interface ReplayOptions {
  workloads: { name: string; about: string }[];
  policies: { name: string; about: string }[];
  presets: string[];
  recordings: Recording[];
}
