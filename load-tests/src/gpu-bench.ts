/**
 * `npm run bench:gpu`: llama.cpp with CUDA under the agent. Step time over batch and context, swap per block against
 * per call, FCFS against PLAS live. Needs no questions answered; without a GPU it says so and ends.
 */
import { closeLine, progressText, say, showStatus } from "./console.ts";
import { endIncomplete, runInterruptible } from "./ending.ts";
import { modelFileOf } from "./engine-bench/model.ts";
import { findGpu } from "./gpu-bench/gpu.ts";
import { measureEngine } from "./gpu-bench/measure.ts";
import { HELP, parseGpuBenchOptions } from "./gpu-bench/options.ts";
import { gpuText } from "./gpu-bench/report.ts";
import { runArms } from "./live/bench.ts";
import { liveText } from "./live/report.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const options = parseGpuBenchOptions(args);
  if (options === undefined) {
    process.stdout.write(HELP);
    return;
  }
  const gpu = options.live.gpu === "auto" ? await findGpu() : undefined;
  if (options.live.gpu === "auto" && gpu === undefined) {
    console.log("no NVIDIA GPU here: nothing was measured");
    return;
  }
  const modelFile = await modelFileOf(options.live.modelFile, process.env, signal);
  say(`measuring ${gpu ?? "the CPU"}`);
  const engine = await measureEngine(options, modelFile, { onProgress: showStatus, signal });
  closeLine();
  const text = gpuText(engine);
  say(text);
  const live = await runArms(
    options.live,
    { modelFile, preset: engine.preset, charsPerToken: engine.charsPerToken },
    {
      onPhase: say,
      onStatus: showStatus,
      onProgress: (name, progress) => showStatus(progressText(name, progress)),
      signal,
    },
  );
  closeLine();
  const whole = [`${gpu ?? "CPU"}`, text, liveText(live.reports), live.about].join("\n\n");
  const machine = await describeMachine(commandLine("bench:gpu", args));
  const report = { name: "bench-gpu", machine, gpu, load: options, engine, live };
  const folder = await writeReport(options.live.out ?? RESULTS_FOLDER, report, whole, {});
  console.log(`\n${whole}\n\nwritten to ${folder}`);
  endIncomplete(live.missing, signal);
}

await runInterruptible(main, "npm run bench:gpu");
