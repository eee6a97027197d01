/**
 * Loaded into every service of a measured system (`--import`), in both arms alike: how late the event loop is and how
 * long planning takes, from one SIGUSR2 to the next. So what is compared does not come from what is switched on and off.
 * The folder of its results is in its own URL: `probe.ts?folder=…`.
 */
import { channel } from "node:diagnostics_channel";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";

const RESOLUTION_MS = 10;
const NS_PER_MS = 1e6;
/** More than a measurement makes plans. */
const PLANS_MAX = 200_000;

const folder = new URL(import.meta.url).searchParams.get("folder");
const isService = /services\/[a-z-]+\/src\/main\.ts$/.test(process.argv[1] ?? "");

if (folder !== null && isService) {
  const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  let planMs: number[] = [];
  let measuring = false;
  channel("autellix.planned").subscribe((ms) => {
    if (measuring && planMs.length < PLANS_MAX) planMs.push(Number(ms));
  });
  process.on("SIGUSR2", () => {
    if (measuring) {
      const loopMs = (ns: number) => Math.max(0, ns / NS_PER_MS - RESOLUTION_MS);
      const found = { loopP50Ms: loopMs(loop.percentile(50)), loopP99Ms: loopMs(loop.percentile(99)), planMs };
      writeFileSync(join(folder, `${process.pid}.json`), JSON.stringify(found));
      planMs = [];
      loop.disable();
    } else {
      loop.reset();
      loop.enable();
    }
    measuring = !measuring;
  });
}
