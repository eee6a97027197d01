import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { memoryTrends } from "../src/memory.ts";
import { formatReport, latencyPlot, type Report, writeReport } from "../src/report.ts";
import type { ProgramResult } from "../src/run.ts";
import { quantile, spread } from "../src/stats.ts";
import { cdf, renderPlot } from "../src/svg.ts";
import { formatTable } from "../src/table.ts";

function program(kind: string, totalMs: number): ProgramResult {
  const call = {
    index: 0,
    thread: "main",
    sentMs: 0,
    httpStatus: 200,
    complete: true,
    error: undefined,
    retryAfterS: undefined,
    callId: "c",
    firstTokenMs: 10,
    pauseMsMax: 5,
    totalMs,
    chunks: 11,
    completionTokens: 11,
    promptTokens: 3,
    waitingMs: 4,
    serviceMs: 5,
    engine: "e",
    attempts: 1,
  };
  return { id: kind, kind, status: "finished", arrivalMs: 0, lateMs: 0, totalMs, gapsMs: 0, calls: [call] };
}

function report(): Report {
  const run = (name: string, factor: number) => ({
    target: name,
    startedAt: "2026-01-01T00:00:00Z",
    elapsedMs: 1_000,
    programs: [program("short", 110 * factor), program("long", 1_110 * factor)],
  });
  const machine = {
    cpu: "a cpu",
    cores: 2,
    memoryBytes: 8 * 2 ** 30,
    platform: "linux",
    node: "v24",
    commit: "abc",
    command: "npm run load -- --seed 1",
  };
  const variants = [
    { name: "fcfs", runs: [run("fcfs", 1)] },
    { name: "plas", runs: [run("plas", 2)] },
  ];
  return { name: "my load", machine, load: { seed: 1 }, variants };
}

describe("a report", () => {
  test("sets A beside B with their ratio, and names machine, commit, seed and command", () => {
    const text = formatReport(report());
    expect(text).toMatch(/^\s+fcfs\s+plas\s+B \/ A$/m);
    expect(text).toMatch(/^program ms, mean\s+610\s+1220\s+2$/m);
    expect(text).toMatch(/^short ms, p50\s+110\s+220\s+2$/m);
    expect(text).toMatch(/^per token ms, mean\s+60\b/m);
    for (const part of ["a cpu, 2 cores, 8 GiB", "commit abc", '"seed":1', "npm run load -- --seed 1"])
      expect(text).toContain(part);
  });

  test("is written as text, JSON and SVG into a folder of its own", async () => {
    const folder = await mkdtemp(join(tmpdir(), "autellix-report-"));
    try {
      const path = await writeReport(folder, report(), "text", { latency: latencyPlot(report()) });
      expect(path).toMatch(/my-load-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d$/);
      expect((await readdir(path)).sort()).toEqual(["latency.svg", "report.json", "report.txt"]);
      expect(JSON.parse(await readFile(join(path, "report.json"), "utf8"))).toMatchObject({
        machine: { commit: "abc" },
      });
      expect(await readFile(join(path, "latency.svg"), "utf8")).toContain("fcfs short (n = 1)");
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

test("quantiles lie between the closest ranks", () => {
  expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
  expect(quantile([1, 2, 3, 4], 1)).toBe(4);
  expect(quantile([], 0.5)).toBeNaN();
  expect(spread([3, undefined, 1])).toMatchObject({ count: 2, mean: 2, max: 3 });
});

test("a plot is well-formed and escapes its names", () => {
  const svg = renderPlot({ title: "a < b & c", xLabel: "x", yLabel: "y", lines: [cdf("<n>", [1, 2, 3])] });
  expect(svg).toContain("a &lt; b &amp; c");
  expect(svg).toContain("&lt;n&gt; (n = 3)");
  expect(svg).not.toContain("NaN");
  expect(renderPlot({ title: "", xLabel: "", yLabel: "", lines: [] })).not.toMatch(/NaN|Infinity/);
});

test("a table aligns numbers to the right and shows what is missing", () => {
  const rows = [
    ["a", 5],
    ["long name", undefined],
    ["b", 1234.5],
  ];
  expect(formatTable(["name", "n"], rows).split("\n")).toEqual([
    "name          n",
    "─".repeat(15),
    "a             5",
    "long name     –",
    "b          1235",
  ]);
});

test("memory is compared after the warm-up, process by process", () => {
  const sample = (second: number, rssBytes: number, pid = 1) => ({
    atMs: second * 1_000,
    processes: [{ pid, name: `p${pid}`, cpuMs: 0, rssBytes }],
  });
  const rising = Array.from({ length: 60 }, (_, second) => sample(second, second < 20 ? second * 100 : 2_000));
  expect(memoryTrends(rising, 20_000)).toEqual([{ name: "p1", beforeBytes: 2_000, afterBytes: 2_000, growth: 0 }]);
  expect(memoryTrends(rising, 0)[0]?.growth).toBeGreaterThan(0.5);
  const restarted = [...rising.slice(0, 50), ...Array.from({ length: 10 }, (_, i) => sample(50 + i, 2_000, 2))];
  expect(memoryTrends(restarted, 20_000)).toEqual([]);
});
