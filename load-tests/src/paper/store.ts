/**
 * Finished runs as JSON lines, appended one by one, so that an interrupted sweep goes on where it was.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, truncateSync } from "node:fs";
import { dirname } from "node:path";
import { UnreadableFile } from "../ending.ts";
import type { RunSpec } from "./spec.ts";
import type { RunResult } from "./summary.ts";

export interface StoredRun {
  key: string;
  /** Hash of the code that computed it. */
  code: string;
  spec: RunSpec;
  result: RunResult;
}

export class RunStore {
  private readonly path: string;
  private readonly runs = new Map<string, StoredRun>();

  /** @throws UnreadableFile when a whole line is no stored run: the file is not one of ours, or it is damaged. */
  constructor(path: string) {
    this.path = path;
    mkdirSync(dirname(path), { recursive: true });
    if (existsSync(path)) this.read();
  }

  get size(): number {
    return this.runs.size;
  }

  get(key: string): StoredRun | undefined {
    return this.runs.get(key);
  }

  /** Synchronous: when it returns, the run survives the process. */
  append(run: StoredRun): void {
    this.runs.set(run.key, run);
    appendFileSync(this.path, `${JSON.stringify(run)}\n`);
  }

  private read(): void {
    const bytes = readFileSync(this.path);
    // A process that died while it wrote leaves a last line without its end: it is cut off, that run is done again.
    const end = bytes.lastIndexOf(0x0a) + 1;
    if (end < bytes.length) truncateSync(this.path, end);
    const lines = bytes.subarray(0, end).toString("utf8").split("\n");
    for (const [index, line] of lines.entries()) {
      if (line === "") continue;
      const run = parseRun(line);
      if (!run)
        throw new UnreadableFile(`${this.path}:${index + 1} is no stored run: remove the file, or name another --out`);
      this.runs.set(run.key, run);
    }
  }
}

function parseRun(line: string): StoredRun | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isStoredRun(value) ? value : undefined;
  } catch {
    return undefined; // the caller says which line it was
  }
}

/** Whether points can be made of it; its numbers are taken as they are. */
function isStoredRun(value: unknown): value is StoredRun {
  const { key, code, spec, result } = fieldsOf(value);
  const { tokenLatencyS, callClasses, deciles, engine } = fieldsOf(result);
  const { programs, slowdown, slowdownMax } = fieldsOf(deciles);
  const lists = [tokenLatencyS, callClasses, programs, slowdown, slowdownMax];
  const areObjects = [spec, engine].every((part) => typeof part === "object" && part !== null);
  return typeof key === "string" && typeof code === "string" && areObjects && lists.every(Array.isArray);
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}
