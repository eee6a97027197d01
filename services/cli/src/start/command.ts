/** `npm start`: checks what can be checked, gets what is missing, runs the system until it is told to stop. */
import { join } from "node:path";
import { type Env, obtainNatsServer, prettyStream } from "@autellix/runtime";
import { checkKeys, checkMetricsPorts, checkNats, checkPorts, isPortFree } from "./checks.ts";
import { bytesText, Console } from "./console.ts";
import { lockDataDir } from "./data-dir.ts";
import { metricsPort, withMetrics, writeTargets } from "./metrics-ports.ts";
import { resolveModels } from "./models.ts";
import { parseStartOptions, type StartOptions, startHelp } from "./options.ts";
import { frontendPorts, HOST, serviceSpecs } from "./services.ts";
import { listenForStop, Stopped } from "./stop-request.ts";
import { Supervisor } from "./supervisor.ts";

const MODELS_MS_MAX = 2_000;
const MODEL_UNKNOWN = "MODEL";

export interface CommandContext {
  env: Env;
  /** What relative paths on the command line are relative to. */
  cwd: string;
  /** The repository. */
  root: string;
  /** The folder of the services; tests have their own. */
  servicesDir: string;
}

/** @returns the exit code: 0 after a stop that was asked for. @throws UsageError, ReadableError, PartError. */
export async function startCommand(args: readonly string[], context: CommandContext): Promise<number> {
  const options = parseStartOptions(args, context.env, join(context.root, ".data"), context.cwd);
  if (options === undefined) {
    process.stdout.write(startHelp());
    return 0;
  }
  const { stdout } = process;
  const console = new Console({
    write: (text) => stdout.write(text),
    // Between log lines a line that is rewritten would be torn.
    isTty: stdout.isTTY === true && !options.pretty,
    columns: stdout.columns || 80,
  });
  const stop = listenForStop(
    () => console.line("stopping … (once more to stop at once)"),
    () => console.line("stopping at once"),
  );
  try {
    await run(options, context, console, stop.signal);
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
  } finally {
    stop.release();
  }
  return 0;
}

async function run(
  options: StartOptions,
  context: CommandContext,
  console: Console,
  signal: AbortSignal,
): Promise<void> {
  const { env, root, servicesDir } = context;
  await checkKeys(options.apiKeysFile);
  const lock = await lockDataDir(options.dataDir, console, signal);
  const pretty = options.pretty ? prettyStream(1) : undefined;
  const supervisor = new Supervisor({
    env,
    cwd: root,
    dataDir: options.dataDir,
    console,
    signal,
    onLogLine: pretty === undefined ? undefined : (line) => pretty.write(`${line}\n`),
    onPid: (pid) => lock.addChild(pid),
  });
  try {
    await checkPorts(options);
    const { pools, natsBin } = await obtainParts(options, context, console, signal);
    const natsUrl = options.natsUrl ?? (await supervisor.startNats(natsBin, options.natsPort));
    const services = serviceSpecs(options, pools, natsUrl, servicesDir);
    const specs = withMetrics(services, await metricsPort(options, services.length, isPortFree));
    await checkMetricsPorts(options, specs.length);
    await writeTargets(options.dataDir, specs);
    console.line(`starting ${specs.length} processes: ${specs.map(({ name }) => name).join(", ")}`);
    await supervisor.startServices(specs, frontendPorts(options));
    sayReady(options, pools[0]?.modelNames[0] ?? (await servedModel(options)), console);
    await aborted(signal);
  } finally {
    await supervisor.stop();
    lock.release();
    if (signal.aborted) console.line("stopped");
  }
}

/** Models and nats-server at the same time; when one cannot be had, the other is given up, too. */
async function obtainParts(options: StartOptions, context: CommandContext, console: Console, signal: AbortSignal) {
  const { env } = context;
  const giveUp = new AbortController();
  const both = AbortSignal.any([signal, giveUp.signal]);
  const nats = async () => {
    if (options.natsUrl !== undefined) {
      await checkNats(options.natsUrl);
      return "";
    }
    const { path } = await obtainNatsServer({
      env,
      signal: both,
      onNotice: (text) => console.line(text),
      onProgress: ({ part, step, doneBytes, totalBytes }) =>
        console.progress(part, `from ${step} ${bytesText(doneBytes, totalBytes)}`),
    });
    return path;
  };
  const models = () => resolveModels(options.models, options, { env, dataDir: options.dataDir, console, signal: both });
  const working = [nats(), models()] as const;
  try {
    const [natsBin, pools] = await Promise.all(working);
    return { natsBin, pools };
  } catch (error) {
    giveUp.abort(new Error("given up"));
    // Temporary files are gone only when both have ended.
    await Promise.allSettled(working);
    signal.throwIfAborted();
    throw error;
  }
}

/** What a server calls its model is known to the frontend that offers it. @returns a stand-in when it does not say. */
async function servedModel({ port }: StartOptions): Promise<string> {
  try {
    const answer = await fetch(`http://${HOST}:${port}/v1/models`, { signal: AbortSignal.timeout(MODELS_MS_MAX) });
    const { data } = (await answer.json()) as { data?: { id?: string }[] };
    return data?.[0]?.id ?? MODEL_UNKNOWN;
  } catch {
    // With a file of keys it is not told to everybody; the line that it is for is only an example.
    return MODEL_UNKNOWN;
  }
}

function sayReady(options: StartOptions, model: string, console: Console): void {
  const url = `http://${HOST}:${options.port}`;
  const body = JSON.stringify({
    model,
    messages: [{ role: "user", content: "What is the capital of France?" }],
    temperature: 0,
  });
  const key = options.apiKeysFile === undefined ? "" : ` -H "authorization: Bearer $AUTELLIX_API_KEY"`;
  console.line(`autellix ready ${url}`);
  console.line(
    `curl ${url}/v1/chat/completions -H "content-type: application/json"${key} -d '${body.replaceAll("'", "'\\''")}'`,
  );
  if (options.dashboardPort !== undefined) console.line(`dashboard http://${HOST}:${options.dashboardPort}`);
  if (key !== "") console.line("(AUTELLIX_API_KEY must hold a key of the keys file)");
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
