import { readFileSync } from "node:fs";
import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLogger } from "@autellix/runtime";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { InputLogFile, type InputLogOptions, inputLogPath } from "../src/input-log.ts";

let folder: string;
const said: string[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "autellix-test-"));
  said.length = 0;
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true, force: true });
});

function openLog(over: Partial<InputLogOptions> = {}): InputLogFile {
  const log = createLogger({ service: "scheduler", level: "silent" });
  vi.spyOn(log, "warn").mockImplementation((_fields: unknown, text?: string) => void said.push(text ?? ""));
  return new InputLogFile({ file: join(folder, "in.jsonl"), pool: "p", epoch: 7, bytesMax: 10_000, log, ...over });
}

const path = () => join(folder, "in.p.7.jsonl");
const linesOf = (text: string) => text.split("\n").slice(0, -1);
const numbered = (count: number) => Array.from({ length: count }, (_, index) => `{"line":${index}}`);

describe("the file of an input log", () => {
  it("is named by pool and epoch", () => {
    expect(inputLogPath("a/in.jsonl", "p", 7)).toBe("a/in.p.7.jsonl");
    expect(inputLogPath("in", "p", 7, 2)).toBe("in.p.7.2");
  });

  it("holds all lines in their order, and why it ended", async () => {
    const log = openLog({ file: join(folder, "deeper", "in.jsonl") });
    const lines = numbered(300);
    for (const [index, line] of lines.entries()) {
      expect(log.write(line)).toBe(true);
      // In the middle a write is on its way.
      if (index === 150) await new Promise((resolve) => setTimeout(resolve, 150));
    }
    await log.close("stopped");
    const text = await readFile(join(folder, "deeper", "in.p.7.jsonl"), "utf8");
    expect(linesOf(text)).toEqual([...lines, '{"end":"stopped"}']);
    expect(said).toEqual([]);
  });

  it("never overwrites an earlier one", async () => {
    await writeFile(path(), "precious");
    const log = openLog();
    log.write("{}");
    await log.close("stopped");
    expect(await readFile(path(), "utf8")).toBe("precious");
    expect(linesOf(await readFile(join(folder, "in.p.7.2.jsonl"), "utf8"))).toHaveLength(2);
  });

  it("ends with a whole line below its size, and says so once", async () => {
    const log = openLog({ bytesMax: 1_000 });
    const lines = numbered(300);
    const taken = lines.filter((line) => log.write(line));
    await log.close("stopped");
    const text = await readFile(path(), "utf8");
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(1_000);
    expect(taken.length).toBeGreaterThan(30);
    expect(linesOf(text)).toEqual([...lines.slice(0, taken.length), '{"end":"input log is full: recording ends"}']);
    expect(said).toEqual(["input log is full: recording ends"]);
  });

  it("that cannot be opened ends the recording with a line, and nothing else", async () => {
    await writeFile(join(folder, "file"), "");
    const log = openLog({ file: join(folder, "file", "in.jsonl") });
    log.write("{}");
    await vi.waitFor(() => expect(said).toEqual(["input log not written: recording ends"]));
    expect(log.write("{}")).toBe(false);
    await log.close("stopped");
    log.closeNow("failed");
    expect(said).toHaveLength(1);
  });

  it("whose disk is full ends the recording with a line, and nothing else", async () => {
    const probe = await open(join(folder, "probe"), "w");
    const full = Object.assign(new Error("no space left"), { code: "ENOSPC" });
    vi.spyOn(Object.getPrototypeOf(probe), "write").mockRejectedValue(full);
    await probe.close();
    const log = openLog();
    log.write("{}");
    await vi.waitFor(() => expect(said).toEqual(["input log not written: recording ends"]));
    expect(log.write("{}")).toBe(false);
  });

  it("whose disk does not keep up ends the recording before memory fills", async () => {
    const log = openLog({ bytesMax: 1e9 });
    const line = JSON.stringify("x".repeat(1024 * 1024));
    const taken = Array.from({ length: 100 }, () => log.write(line)).filter(Boolean);
    expect(taken.length).toBeLessThan(17);
    expect(said).toEqual(["input log's disk is too slow: recording ends"]);
    await log.close("stopped");
    expect(linesOf(await readFile(path(), "utf8"))).toHaveLength(taken.length + 1);
  });

  it("is whole when the process has to end at once, also while a write is on its way", async () => {
    const log = openLog();
    const lines = numbered(200);
    for (const line of lines.slice(0, 100)) log.write(line);
    await vi.waitFor(async () => expect(await readdir(folder)).toEqual(["in.p.7.jsonl"]));
    const probe = await open(join(folder, "probe"), "w");
    const write = vi.spyOn(Object.getPrototypeOf(probe), "write").mockImplementation(() => new Promise(() => {}));
    await probe.close();
    await vi.waitFor(() => expect(write).toHaveBeenCalled());
    for (const line of lines.slice(100)) log.write(line);
    log.closeNow("failed");
    expect(linesOf(readFileSync(path(), "utf8"))).toEqual([...lines, '{"end":"failed"}']);
  });
});
