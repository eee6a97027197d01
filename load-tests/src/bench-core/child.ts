/** Entry of a process that measures one thing (see isolated.ts): its parent says what, and gets the result. */
import type { Measurement } from "./isolated.ts";
import { measureMemory } from "./memory.ts";
import { measureSpeed } from "./speed.ts";

process.once("message", async (measurement: Measurement) => {
  const result =
    measurement.kind === "speed"
      ? await measureSpeed(measurement.load, measurement.measureMs)
      : measureMemory(measurement.load);
  process.send?.(result, () => process.disconnect());
});
