/**
 * The ladder calibrates itself from the load. A ladder three times too high demotes nobody and one twenty times too low
 * sinks every call: both are first come, first served. So Q1 ends at the 25th percentile of completed calls' service,
 * and the other levels follow by the factor. What is learned from is bounded and part of the core's state (S6).
 */
import type { Calibration } from "./config.ts";
import { doublingLadder, type Ladder } from "./ladder.ts";

/** Completed calls that count: the last ones. */
const SAMPLES_MAX = 1024;
/** Fewer say nothing about a quarter of them. */
const SAMPLES_MIN = 32;
/** Completed calls between two looks; the first look comes with the first `SAMPLES_MIN`. */
const LOOK_EVERY = 512;
const QUANTILE = 0.25;
/** The ladder in force stays until the new first level differs by this factor: levels that move all the time sort nobody. */
const HYSTERESIS = 1.2;

export class LadderCalibrator {
  ladder: Ladder;
  /** Times that the ladder was changed. */
  changes = 0;
  private first: number;
  private readonly calibration: Calibration;
  private readonly samples = new Float64Array(SAMPLES_MAX);
  private completed = 0;
  private nextLook = SAMPLES_MIN;

  constructor(calibration: Calibration) {
    this.calibration = calibration;
    this.first = calibration.first;
    this.ladder = doublingLadder(calibration.first, calibration.levels, calibration.factor);
  }

  /** @param service of a completed call, in the policy's unit. A call that took none teaches nothing. */
  learn(service: number): void {
    if (!(service > 0)) return;
    this.samples[this.completed % SAMPLES_MAX] = service;
    this.completed++;
    if (this.completed < this.nextLook) return;
    // Early looks come close together, 32, 64, 128 …: a wrong start is left soon.
    this.nextLook = this.completed + Math.min(this.completed, LOOK_EVERY);
    this.look();
  }

  private look(): void {
    const known = this.samples.slice(0, Math.min(this.completed, SAMPLES_MAX)).sort();
    const first = known[Math.floor(known.length * QUANTILE)];
    if (first === undefined || (first < this.first * HYSTERESIS && first * HYSTERESIS > this.first)) return;
    this.first = first;
    this.ladder = doublingLadder(first, this.calibration.levels, this.calibration.factor);
    this.changes++;
  }
}
