import { execFile } from "node:child_process";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { StepPoint } from "../src/calibrate/samples.ts";
import { parseGpuBenchOptions } from "../src/gpu-bench/options.ts";
import { stepTable } from "../src/gpu-bench/report.ts";
import { UsageError } from "../src/options.ts";

const run = promisify(execFile);

it("bench:gpu says in one line that there is no GPU, and ends well", async () => {
  const script = resolve(import.meta.dirname, "../src/gpu-bench.ts");
  // Nothing on the PATH: no driver's tool.
  const env = { ...process.env, PATH: join(import.meta.dirname, "nothing-here") };
  const { stdout, stderr } = await run(process.execPath, [script], { env });
  expect([stdout, stderr]).toEqual(["no NVIDIA GPU here: nothing was measured\n", ""]);
});

it("tabulates step times by context and batch", () => {
  const point = (decodeTokens: number, context: number, durationMs: number): StepPoint => ({
    kind: "decode",
    passes: 1,
    prefillTokens: 0,
    decodeTokens,
    contextTokens: decodeTokens * context,
    attendedTokens: 0,
    durationMs,
  });
  const lines = stepTable([point(1, 130, 5), point(4, 125, 6), point(1, 1_030, 7), point(4, 1_020, 12)]).split("\n");
  expect(lines.map((line) => line.split(/\s{2,}/).map((cell) => cell.trim()))).toEqual([
    ["context", "1 calls", "4 calls"],
    expect.any(Array),
    ["", "128", "5.00 ms", "6.00 ms"],
    ["", "1024", "7.00 ms", "12.00 ms"],
  ]);
});

describe("the command line of bench:gpu", () => {
  it("is that of bench:live, with a GPU", () => {
    expect(parseGpuBenchOptions(["--batch", "32", "--policies", "plas"])).toMatchObject({
      live: { gpu: "auto", batchCallsMax: 32, policies: ["plas"], seconds: 60 },
      contextTokensMax: 8_192,
    });
    expect(parseGpuBenchOptions(["--cpu"])?.live).toMatchObject({ gpu: false, batchCallsMax: 16 });
    expect(parseGpuBenchOptions(["--help"])).toBeUndefined();
    expect(() => parseGpuBenchOptions(["--tiers", "x"])).toThrow(UsageError);
    expect(() => parseGpuBenchOptions(["--gpu", "auto"])).toThrow(UsageError);
  });
});
