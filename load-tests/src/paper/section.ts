/**
 * A piece of the report: what one figure or sweep of the paper became here.
 */
import type { Plot } from "../svg.ts";
import type { Cell } from "../table.ts";
import type { Bench } from "./bench.ts";
import type { PointResult } from "./point.ts";

export interface Table {
  title: string;
  head: readonly string[];
  rows: readonly (readonly Cell[])[];
}

export interface Section {
  /** Unique in the report; part of its files' names. */
  id: string;
  title: string;
  /** Named above the tables: a figure without its protocol says nothing. */
  protocols: readonly string[];
  notes: readonly string[];
  tables: readonly Table[];
  /** By the name of their file. */
  plots: Readonly<Record<string, Plot>>;
  /** All of its points, for the JSON, by any name. */
  points: readonly PointResult[];
}

/** How much is asked for. */
export interface Scope {
  workloads: readonly string[];
  systems: readonly string[];
  /** The protocols that are played; a finite trace is the paper's. */
  finite: boolean;
  steady: boolean;
  /** Seeds of a point, and programs when not the protocols' own, at least. */
  seedsMin: number;
  programsMin?: number;
  /** A few rates and seeds, for CI. */
  quick: boolean;
  preset: string;
}

export interface Piece {
  /** For `--only`. */
  id: string;
  /** What it answers, for `--help`. */
  about: string;
  /** Part of a run without `--all`. */
  inDefault: boolean;
  run: (bench: Bench, scope: Scope) => Promise<Section[]>;
}

/** Decimals that a latency, a share or a ratio needs. */
export function fixed(value: number | undefined, digits = 3): string {
  return value === undefined || !Number.isFinite(value) ? "–" : value.toFixed(digits);
}

export function percent(share: number | undefined): string {
  return share === undefined || !Number.isFinite(share) ? "–" : `${(100 * share).toFixed(1)} %`;
}

/** `0.412 ± 0.031`, and `unstable` where it is. */
export function meanCell(point: PointResult | undefined): string {
  if (!point) return "–";
  const { mean, halfWidth } = point.mean;
  const text = `${fixed(mean)}${Number.isFinite(halfWidth) ? ` ± ${fixed(halfWidth)}` : ""}`;
  return point.stable ? text : `unstable (≥ ${fixed(mean)})`;
}

export function ratioCell(a: number | undefined, b: number | undefined): string {
  return a === undefined || b === undefined || b === 0 ? "–" : `${(a / b).toFixed(2)}×`;
}
