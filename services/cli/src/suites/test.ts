/**
 * `npm test`, `npm run test:engines`, `npm run test:system` and `npm run test:containers`: get the outside parts that the tests use, then run them.
 */
import { DEFAULT_MODEL, obtainDefaultModel, obtainNatsServer, PartError, type PartProgress } from "@autellix/runtime";
import { bytesText, Console } from "../start/console.ts";
import { listenForStop, Stopped } from "../start/stop-request.ts";
import { countsLine, runVitest, type SuiteContext } from "./vitest.ts";

const STOPPED_EXIT_CODE = 130;

/** Of vitest.config.ts, by command. */
const PROJECTS = {
  test: ["unit", "theory", "integration"],
  // Against other people's servers, which its own setup fetches.
  "test-engines": ["engines"],
  // Beside tools that look at the system from outside; each file fetches its own.
  "test-system": ["system"],
  // In a real Docker engine, which its own setup finds or starts.
  "test-containers": ["containers"],
} as const;

/** @param args handed to vitest, such as paths of test files. @returns the exit code. */
export async function testCommand(
  command: keyof typeof PROJECTS,
  args: readonly string[],
  context: SuiteContext,
): Promise<number> {
  const stop = listenForStop(
    () => process.stderr.write("stopping …\n"),
    () => {},
  );
  try {
    await obtainParts(context, stop.signal);
    const counts = await runVitest(PROJECTS[command], args, context, stop.signal);
    process.stdout.write(countsLine(counts));
    return counts.failed === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof Stopped) return STOPPED_EXIT_CODE;
    throw error;
  } finally {
    stop.release();
  }
}

/** Fills the cache, so that no test waits for a download; tests say themselves what they cannot do without. */
async function obtainParts({ env }: SuiteContext, signal: AbortSignal): Promise<void> {
  const { stdout } = process;
  const console = new Console({
    write: (text) => stdout.write(text),
    isTty: stdout.isTTY === true,
    columns: stdout.columns || 80,
  });
  const onProgress = ({ part, step, doneBytes, totalBytes }: PartProgress) =>
    console.progress(part, `from ${step} ${bytesText(doneBytes, totalBytes)}`);
  const { path, version } = await obtainNatsServer({ env, signal, onProgress, onNotice: (text) => console.line(text) });
  console.line(`nats-server ${version}: ${path}`);
  try {
    console.line(`model ${DEFAULT_MODEL.name}: ${await obtainDefaultModel({ env, signal, onProgress })}`);
  } catch (error) {
    if (!(error instanceof PartError)) throw error;
    console.line(`${error.message}\nThe tests that need this model are skipped.`);
  }
}
