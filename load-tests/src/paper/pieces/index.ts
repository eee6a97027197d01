/** All pieces of the report, in its order. */
import type { Piece } from "../section.ts";
import { calibration } from "./calibration.ts";
import { balancersPiece, replicas } from "./engines.ts";
import { interval } from "./interval.ts";
import { latency } from "./latency.ts";
import { sensitivity } from "./sensitivity.ts";
import { sharing } from "./sharing.ts";
import { breakdown, makespan, srpt, swaps } from "./single-figures.ts";
import { starvationPieces } from "./starvation.ts";
import { sweepPieces } from "./sweeps.ts";
import { waiting } from "./waiting.ts";

export const pieces: readonly Piece[] = [
  latency,
  waiting,
  sharing,
  balancersPiece,
  replicas,
  makespan,
  breakdown,
  srpt,
  swaps,
  ...starvationPieces,
  calibration,
  ...sweepPieces,
  interval,
  sensitivity,
];
