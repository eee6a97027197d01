/**
 * `npm run calibrate`: measures a real engine through the port, as an agent drives it, and writes the preset with which
 * the simulator and the simulated engine stand for it.
 */
import { writeFile } from "node:fs/promises";
import type { Engine } from "@autellix/engines";
import { fit } from "./calibrate/fit.ts";
import { type CalibrateOptions, HELP, parseCalibrateOptions } from "./calibrate/options.ts";
import { samplePlan } from "./calibrate/plan.ts";
import { fitText, presetOf, rounded } from "./calibrate/preset.ts";
import { sample } from "./calibrate/samples.ts";
import { closeLine, say, showStatus } from "./console.ts";
import { runInterruptible } from "./ending.ts";
import { openEngine } from "./engine-bench/open-engine.ts";
import { commandLine, describeMachine } from "./machine.ts";

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const options = parseCalibrateOptions(args);
  if (options === undefined) {
    process.stdout.write(HELP);
    return;
  }
  say("opening the engine");
  const engine = await openEngine(options.engine);
  try {
    await calibrate(engine, options, args, signal);
  } finally {
    await engine.shutdown();
  }
}

async function calibrate(engine: Engine, options: CalibrateOptions, args: readonly string[], signal: AbortSignal) {
  const { info } = engine;
  const samples = await sample(engine, {
    ...samplePlan(info, options.contextsMax, options.repeats),
    onProgress: showStatus,
    signal,
  });
  closeLine();
  const fitted = fit(samples);
  const name = options.name ?? info.models[0] ?? info.kind;
  const file = options.out ?? `preset-${name.replaceAll(/[^\w.-]/g, "-")}.json`;
  const value = {
    name,
    preset: presetOf(info, samples, fitted),
    fit: fitted.errors,
    engine: info,
    machine: await describeMachine(commandLine("calibrate", args)),
    samples,
  };
  await writeFile(file, `${JSON.stringify(value, (_, one) => (typeof one === "number" ? rounded(one) : one), 1)}\n`);
  console.log(`${fitText(fitted)}\n\nwritten to ${file}`);
}

await runInterruptible(main, "npm run calibrate");
