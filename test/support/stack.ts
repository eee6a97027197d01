/**
 * The whole system for one test file: `npm start` as separate processes, on free ports and below one folder. Stopping
 * it checks that nothing is left.
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cacheDir, DEFAULT_MODEL } from "@autellix/runtime";
import { startStack } from "../../load-tests/src/stack.ts";

export interface TestProcess {
  pid: number;
  /** `frontend-0`, `scheduler-tiny-0`, `worker-agent-tiny-0`, `nats-server`, `supervisor`. */
  name: string;
}

export interface TestStack {
  /** `http://127.0.0.1:<port>` of each frontend. */
  urls: string[];
  natsUrl: string;
  processes(): TestProcess[];
  /** All log lines of all services so far. */
  logs(): Promise<string>;
  /** As Ctrl-C does. @throws when a process or a file is left behind, or the stack was too slow and had to be killed. */
  stop(): Promise<void>;
}

export interface TestStackOptions {
  /** Default: the tiny model. */
  models?: string[];
  /** Per model. */
  engines?: number;
  frontends?: number;
  schedulers?: number;
  /** More options of `npm start`. */
  args?: string[];
  env?: Record<string, string>;
}

export async function startTestStack(options: TestStackOptions = {}): Promise<TestStack> {
  const { models = ["tiny"], engines = 1, frontends = 1, schedulers = 1, args = [], env = {} } = options;
  const folder = await mkdtemp(join(tmpdir(), "autellix-e2e-"));
  const outerTmp = process.env.TMPDIR;
  // Everything that the stack writes lands below the folder, so that what it leaves is seen.
  process.env.TMPDIR = folder;
  const cleanUp = async () => {
    if (outerTmp === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = outerTmp;
    await rm(folder, { recursive: true, force: true });
  };
  const counts = { engines, frontends, schedulers };
  const all = [
    ...models.flatMap((model) => ["--model", model]),
    ...Object.entries(counts).flatMap(([name, count]) => [`--${name}`, String(count)]),
    ...args,
  ];
  let stack: Awaited<ReturnType<typeof startStack>>;
  try {
    stack = await startStack({ args: all, env });
  } catch (error) {
    await cleanUp();
    throw error;
  }
  const port = Number(new URL(stack.baseUrl).port);
  const processes = () => stack.processes().map(({ pid, name }) => ({ pid, name }));
  return {
    urls: Array.from({ length: frontends }, (_, index) => `http://127.0.0.1:${port + index}`),
    natsUrl: stack.natsUrl,
    processes,
    logs: () => logsBelow(folder),
    async stop() {
      const before = processes();
      await stack.stop();
      const alive = before.filter(({ pid }) => isRunning(pid));
      const left = await readdir(folder);
      await cleanUp();
      if (alive.length > 0 || left.length > 0) {
        throw new Error(`left behind: ${[...alive.map(({ name, pid }) => `${name} (${pid})`), ...left].join(", ")}`);
      }
    },
  };
}

/** The default model's file, when it is in the cache: a test never downloads 98 MB by itself. */
export function cachedDefaultModel(): string | undefined {
  const path = join(cacheDir(process.env), "models", DEFAULT_MODEL.file);
  return existsSync(path) ? path : undefined;
}

/** A zombie is gone: its parent is this process or the container's first, and has not asked yet. */
function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch {
    return false;
  }
}

async function logsBelow(folder: string): Promise<string> {
  const names = await readdir(folder, { recursive: true });
  const texts = names.filter((name) => name.endsWith(".log")).map((name) => readFile(join(folder, name), "utf8"));
  return (await Promise.all(texts)).join("\n");
}
