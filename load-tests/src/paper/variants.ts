/** Sweeps of one thing: the same programs under variants of a system. */
import type { Cell } from "../table.ts";
import type { Bench } from "./bench.ts";
import { POINT_HEAD, pointCells } from "./columns.ts";
import type { PointResult } from "./point.ts";
import { ratioCell, type Table } from "./section.ts";
import type { PointSpec } from "./spec.ts";

export interface Variant {
  name: string;
  /** Laid over the common specification. */
  spec: Partial<PointSpec>;
}

export interface VariantPoint {
  name: string;
  point: PointResult;
}

export async function playVariants(
  bench: Bench,
  common: PointSpec,
  variants: readonly Variant[],
): Promise<VariantPoint[]> {
  return await Promise.all(
    variants.map(async ({ name, spec }) => ({ name, point: await bench.point({ ...common, ...spec }) })),
  );
}

/** @param base name of the variant that means are set in proportion to; the first one without it. */
export function variantTable(title: string, played: readonly VariantPoint[], base?: string): Table {
  const reference = (played.find(({ name }) => name === base) ?? played[0])?.point.mean.mean;
  const rows = played.map(({ name, point }): Cell[] => [
    name,
    ratioCell(point.mean.mean, reference),
    ...pointCells(point),
  ]);
  return { title, head: ["variant", `mean over ${base ?? played[0]?.name ?? "the first"}`, ...POINT_HEAD], rows };
}

/** The rate as multiples of the knee: below it, at it, in overload. */
export const LOADS = [
  { name: "below the knee", factor: 0.7 },
  { name: "at the knee", factor: 1 },
  { name: "overload", factor: 1.5 },
] as const;
