import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { presets } from "../src/simulated/cost.ts";
import { PresetError, presetId, readPreset } from "../src/simulated/preset-file.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "autellix-test-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const preset = presets["smollm2-cpu"];

async function file(name: string, value: unknown): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, typeof value === "string" ? value : JSON.stringify(value));
  return path;
}

it("gives presets by name", () => {
  expect(readPreset("a100-8b")).toBe(presets["a100-8b"]);
  expect(presetId("a100-8b")).toBe("a100-8b");
});

it("reads a file, and names what is in it", async () => {
  const path = await file("one.json", { preset: { ...preset, extra: 1 }, fit: { median: 0.01 } });
  expect(readPreset(path)).toEqual(preset);
  const id = presetId(path);
  expect(id).toMatch(/one\.json#[0-9a-f]{8}$/);
  expect(readPreset(id)).toEqual(preset);
  const other = { ...preset, cost: { ...preset.cost, attendedTokenMs: 0.5, mixedMs: 0.125, prefillMs: 0.25 } };
  await file("one.json", { preset: other });
  expect(presetId(path)).not.toBe(id);
  expect(readPreset(path)).toEqual(other);
});

it.each<[string, unknown, string]>([
  ["no JSON", "{", "is no JSON"],
  ["no preset", { cost: 1 }, "preset is missing"],
  ["null", null, "preset is missing"],
  ["without costs", { preset: { ...preset, cost: undefined } }, "preset.cost is missing"],
  ["a negative time", { preset: { ...preset, cost: { ...preset.cost, stepMs: -1 } } }, "preset.cost.stepMs must be"],
  ["no batch", { preset: { ...preset, batchCallsMax: 0 } }, "preset.batchCallsMax must be a whole number of 1 or more"],
  [
    "half a call",
    { preset: { ...preset, residentCallsMax: 2.5 } },
    "preset.residentCallsMax must be a whole number of 1",
  ],
  [
    "less than a block",
    { preset: { ...preset, kvTokens: 15 } },
    "preset.kvTokens must be a whole number of 16 or more",
  ],
  ["text for a number", { preset: { ...preset, kvTokens: "many" } }, "preset.kvTokens must be"],
])("refuses %s in one line", async (name, value, message) => {
  const path = await file(`${name.replaceAll(" ", "-")}.json`, value);
  expect(() => readPreset(path)).toThrow(PresetError);
  expect(() => readPreset(path)).toThrow(message);
});

it("reads a file whose name has the mark of a hash", async () => {
  const path = await file("run #1.json", { preset });
  expect(readPreset(path)).toEqual(preset);
  expect(presetId(path)).toMatch(/run #1\.json#[0-9a-f]{8}$/);
  expect(readPreset(presetId(path))).toEqual(preset);
});

it("refuses what is neither a name nor a file", () => {
  expect(() => readPreset("h100")).toThrow("must be one of zero, a100-8b");
});
