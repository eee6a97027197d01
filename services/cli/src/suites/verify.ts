/** `npm run verify`: format, lint, types, purity of libs/core, import rules and unit tests, in some minutes. */
import { join } from "node:path";
import { spawnTied } from "@autellix/runtime";
import { listenForStop, Stopped } from "../start/stop-request.ts";
import { type Counts, countsLine, runVitest, type SuiteContext } from "./vitest.ts";

const STOPPED_EXIT_CODE = 130;

interface Check {
  name: string;
  /** A program of node_modules/.bin with its arguments. */
  command: readonly [string, ...string[]];
}

const checks: readonly Check[] = [
  { name: "format and lint", command: ["biome", "check"] },
  { name: "types", command: ["tsc", "-p", "tsconfig.json"] },
  { name: "types of the dashboard's pages", command: ["tsc", "-p", "services/dashboard/src/web"] },
  { name: "purity of libs/core", command: ["tsc", "-p", "libs/core"] },
];

/** @returns the exit code. */
export async function verifyCommand(context: SuiteContext): Promise<number> {
  const stop = listenForStop(
    () => process.stderr.write("stopping …\n"),
    () => {},
  );
  try {
    const total: Counts = { passed: 0, failed: 0 };
    for (const check of checks) {
      const passed = await runCheck(check, context, stop.signal);
      total[passed ? "passed" : "failed"] += 1;
    }
    // The import rules are one of the unit tests.
    const { passed, failed } = await runVitest(["unit"], [], context, stop.signal);
    total.passed += passed;
    total.failed += failed;
    process.stdout.write(countsLine(total));
    return total.failed === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof Stopped) return STOPPED_EXIT_CODE;
    throw error;
  } finally {
    stop.release();
  }
}

async function runCheck({ name, command }: Check, { env, root }: SuiteContext, signal: AbortSignal): Promise<boolean> {
  signal.throwIfAborted();
  const [program, ...args] = command;
  const startedAtMs = performance.now();
  const child = spawnTied(join(root, "node_modules", ".bin", program), args, {
    env: { ...env, PATH: `${join(root, "node_modules", ".bin")}:${env.PATH ?? ""}` },
    cwd: root,
    stdout: 1,
    stderr: 2,
  });
  const end = () => void child.end();
  signal.addEventListener("abort", end);
  const code = await child.exited;
  signal.removeEventListener("abort", end);
  signal.throwIfAborted();
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1);
  process.stdout.write(`${code === 0 ? "ok" : "FAILED"}: ${name} (${seconds} s)\n`);
  return code === 0;
}
