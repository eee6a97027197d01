/** Runs vitest as a child that leaves nothing behind, and counts what it found. */
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { type Env, holdFolder, spawnTied } from "@autellix/runtime";
import { z } from "zod";

export interface SuiteContext {
  env: Env;
  /** The repository. */
  root: string;
}

export interface Counts {
  passed: number;
  failed: number;
}

/** What is used of vitest's JSON report. */
const reportSchema = z.object({
  success: z.boolean(),
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      message: z.string().optional(),
      assertionResults: z.array(
        z.object({ status: z.string(), fullName: z.string(), failureMessages: z.array(z.string()).optional() }),
      ),
    }),
  ),
});

/**
 * @param projects of vitest.config.ts. @param args more for vitest's command line, such as paths.
 * @returns what counts. With CI set, a skipped test is a failed one: there nothing may be missing.
 */
export async function runVitest(
  projects: readonly string[],
  args: readonly string[],
  { env, root }: SuiteContext,
  signal: AbortSignal,
): Promise<Counts> {
  const folder = await mkdtemp(join(tmpdir(), "autellix-report-"));
  const held = holdFolder(folder);
  const report = join(folder, "report.json");
  // Tests that are interrupted leave their temporary files here, and they go with the folder.
  const temp = join(folder, "tmp");
  await mkdir(temp);
  const vitest = [
    join(root, "node_modules", "vitest", "vitest.mjs"),
    "run",
    ...projects.flatMap((project) => ["--project", project]),
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${report}`,
    ...args,
  ];
  // Tests that start `node` must get this one.
  const path = [join(root, "node_modules", ".bin"), env.PATH].join(delimiter);
  const child = spawnTied(process.execPath, vitest, {
    env: { ...env, PATH: path, TMPDIR: temp },
    cwd: root,
    stdout: 1,
    stderr: 2,
  });
  const end = () => void child.end();
  signal.addEventListener("abort", end);
  try {
    if (signal.aborted) end();
    const code = await child.exited;
    signal.throwIfAborted();
    const counts = count(await readFile(report, "utf8").catch(() => undefined), code, isCi(env));
    for (const failure of counts.failures) process.stdout.write(`FAILED: ${failure}\n`);
    return counts;
  } finally {
    signal.removeEventListener("abort", end);
    // Servers of an interrupted test may still be ending.
    await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    held.release();
  }
}

function isCi(env: Env): boolean {
  return env.CI === "true" || env.CI === "1";
}

/**
 * @param text the report; undefined when vitest ended without one, which is a failure in itself.
 * @returns also a line for each failure: who reads the end of a long log sees what failed, and why.
 */
export function count(
  text: string | undefined,
  exitCode: number,
  skippedFails: boolean,
): Counts & { failures: string[] } {
  const report = text === undefined ? undefined : reportSchema.parse(JSON.parse(text));
  const failures: string[] = [];
  let passed = 0;
  for (const file of report?.testResults ?? []) {
    const before = failures.length;
    for (const { status, fullName, failureMessages } of file.assertionResults) {
      if (status === "passed") passed += 1;
      else if (status === "failed") failures.push(`${file.name}: ${fullName}: ${firstLine(failureMessages?.[0])}`);
      else if (skippedFails) failures.push(`${file.name}: ${fullName}: skipped, which fails with CI set`);
    }
    // A file that could not even be loaded has no tests to fail.
    if (file.status === "failed" && failures.length === before)
      failures.push(`${file.name}: ${firstLine(file.message)}`);
  }
  if (failures.length === 0 && exitCode !== 0) failures.push(`an error outside all tests: exit code ${exitCode}`);
  return { passed, failed: failures.length, failures };
}

function firstLine(message: string | undefined): string {
  return (
    stripVTControlCharacters(message ?? "")
      .trim()
      .split("\n", 1)[0] || "no message"
  );
}

/** The last line of every run of tests. */
export function countsLine({ passed, failed }: Counts): string {
  return `${passed} passed, ${failed} failed\n`;
}
