/** `npm test`: gets the outside parts that the tests use, then runs every suite and adds them up. */
import { DEFAULT_MODEL, obtainDefaultModel, obtainNatsServer, PartError, type PartProgress } from "@autellix/runtime";
import { bytesText, Console } from "../start/console.ts";
import { listenForStop, Stopped } from "../start/stop-request.ts";
import { type Counts, countsLine, runVitest, type SuiteContext } from "./vitest.ts";

const STOPPED_EXIT_CODE = 130;

interface Suite {
  name: string;
  run(args: readonly string[], context: SuiteContext, signal: AbortSignal): Promise<Counts>;
}

/** In this order; each adds to the last line. */
const suites: readonly Suite[] = [
  {
    name: "unit, theory and integration",
    run: (args, context, signal) => runVitest(["unit", "theory", "integration"], args, context, signal),
  },
];

/** @param args handed to the suites, such as paths of test files. @returns the exit code. */
export async function testCommand(args: readonly string[], context: SuiteContext): Promise<number> {
  const stop = listenForStop(
    () => process.stderr.write("stopping …\n"),
    () => {},
  );
  try {
    await obtainParts(context, stop.signal);
    const total: Counts = { passed: 0, failed: 0 };
    for (const suite of suites) {
      const { passed, failed } = await suite.run(args, context, stop.signal);
      if (suites.length > 1) process.stdout.write(`${suite.name}: ${countsLine({ passed, failed })}`);
      total.passed += passed;
      total.failed += failed;
    }
    process.stdout.write(countsLine(total));
    return total.failed === 0 ? 0 : 1;
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
