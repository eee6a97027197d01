/**
 * `npm run bench:tools -- --url URL`: how much of a tool-calling load can be preempted on a server that runs. A call
 * whose answer could not be gone on with exactly keeps its slot (decision 0024); what it is ordered by is its admission.
 */
import { type AgentMessage, agentMessageSchema, listen, openBus, type Report, subjects } from "@autellix/protocol";
import { closeLine, say, showStatus } from "./console.ts";
import { runInterruptible } from "./ending.ts";
import { type CallBody, type Endpoint, openEndpoint } from "./http.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { parseFlags, UsageError, whole } from "./options.ts";
import { RESULTS_FOLDER, writeReport } from "./report.ts";
import { firstModel } from "./run.ts";
import { startStack } from "./stack.ts";
import { formatTable } from "./table.ts";

const CALL_MS_MAX = 600_000;
const HELP = `npm run bench:tools -- --url URL [options]: what of a load with tools can be preempted on a server that runs
  --url URL         of an OpenAI-compatible server; vLLM needs --enable-auto-tool-choice and a --tool-call-parser
  --slots N         calls that it computes together, where it does not say so itself
  --dialect NAME    (default: found out)
  --programs N      of each kind (default 10)
  --calls N         of a program, one after the other (default 4)
  --tokens N        of each answer at most (default 120)
  --out FOLDER      (default load-tests/results)
`;

const TOOLS = [
  {
    type: "function",
    function: {
      name: "search",
      description: "Looks a word up.",
      parameters: { type: "object", properties: { word: { type: "string" } }, required: ["word"] },
    },
  },
];

/** What clients send: with tools or without, as a stream or whole. */
const KINDS = {
  "tools, streamed": { tools: true, stream: true },
  "tools, whole": { tools: true, stream: false },
  "text, streamed": { tools: false, stream: true },
  "text, whole": { tools: false, stream: false },
} as const;
type Kind = keyof typeof KINDS;

interface Load {
  programs: number;
  calls: number;
  tokens: number;
}

/** One call as the reports show it. */
interface Seen {
  kind: Kind;
  serviceMs: number;
  preemptibleMs: number;
  /** It could be preempted whenever it was looked at. */
  always: boolean;
}

/** From reports: for how much of its service each call could have been preempted at the end of the window. */
class Preemptibility {
  readonly calls = new Map<string, Seen>();
  readonly #kindOf: (call: string) => Kind | undefined;

  /** @param kindOf by the call's program. */
  constructor(kindOf: (call: string) => Kind | undefined) {
    this.#kindOf = kindOf;
  }

  report({ calls }: Report): void {
    for (const { call, serviceMs, preemptible } of calls) {
      const kind = this.#kindOf(call);
      if (kind === undefined) continue;
      const seen = this.calls.get(call) ?? { kind, serviceMs: 0, preemptibleMs: 0, always: true };
      this.calls.set(call, seen);
      const gainedMs = Math.max(0, serviceMs - seen.serviceMs);
      if (preemptible === false) seen.always = false;
      else seen.preemptibleMs += gainedMs;
      seen.serviceMs = Math.max(serviceMs, seen.serviceMs);
    }
  }
}

interface Share {
  kind: Kind;
  calls: number;
  /** Of the calls: preemptible at the end of every window. */
  always: number;
  /** Of their service. */
  service: number;
}

function sharesOf(calls: Iterable<Seen>): Share[] {
  const all = [...calls];
  return (Object.keys(KINDS) as Kind[]).map((kind) => {
    const own = all.filter((seen) => seen.kind === kind);
    const sum = (read: (seen: Seen) => number) => own.reduce((total, seen) => total + read(seen), 0);
    return {
      kind,
      calls: own.length,
      always: sum(({ always }) => (always ? 1 : 0)) / own.length,
      service: sum(({ preemptibleMs }) => preemptibleMs) / sum(({ serviceMs }) => serviceMs),
    };
  });
}

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const text = { type: "string" } as const;
  const given = parseFlags(args, {
    ...{ url: text, slots: text, dialect: text, programs: text, calls: text, tokens: text, out: text },
    help: { type: "boolean", short: "h" },
  });
  if (given.help) {
    process.stdout.write(HELP);
    return;
  }
  if (given.url === undefined) throw new UsageError("--url must name a server that runs");
  const load = {
    programs: whole("programs", given.programs, 10, 1, 1_000),
    calls: whole("calls", given.calls, 4, 1, 100),
    tokens: whole("tokens", given.tokens, 120, 1, 4_096),
  };
  const server = ["--url", given.url, ...option("slots", given.slots), ...option("dialect", given.dialect)];
  const { shares, failed, toolCalls } = await measure(load, server, signal);
  closeLine();
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const rows = shares.map(({ kind, calls, always, service }) => [kind, calls, percent(always), percent(service)]);
  const summary = [
    formatTable(["calls", "number", "could be preempted at any time", "share of their service"], rows),
    `${toolCalls} answers were tool calls; ${failed} calls failed`,
  ].join("\n\n");
  const machine = await describeMachine(commandLine("bench:tools", args));
  const report = { name: "bench-tools", machine, load: { ...load }, shares, failed, toolCalls };
  const folder = await writeReport(given.out ?? RESULTS_FOLDER, report, summary, {});
  console.log(`${summary}\n\nwritten to ${folder}`);
  if (failed > 0 || shares.some(({ calls }) => calls === 0)) process.exitCode = 1;
}

function option(name: string, value: string | undefined): string[] {
  return value === undefined ? [] : [`--${name}`, value];
}

async function measure(load: Load, server: readonly string[], signal: AbortSignal) {
  const stack = await startStack({
    args: ["--engine", "http", ...server, "--frontends", "1", "--log-level", "warn"],
    onProgress: showStatus,
    signal,
  });
  const kinds = new Map<string, Kind>();
  try {
    const url = `${stack.baseUrl}/v1`;
    const endpoint = openEndpoint(url);
    const bus = await openBus({ url: stack.natsUrl, name: "bench:tools" });
    const seen = new Preemptibility((call) => kinds.get(call.slice(call.indexOf("/") + 1)));
    let broken: unknown;
    const onMessage = (message: AgentMessage) => {
      if (message.kind === "report") reports.push(message);
    };
    const reports: Report[] = [];
    listen(bus, subjects.report("*"), agentMessageSchema, onMessage, (error) => {
      broken ??= error;
    });
    await bus.nc.flush();
    const model = await firstModel(endpoint, url);
    say(`${load.programs} programs of each kind, ${load.calls} calls each, on ${model}`);
    const programs = (Object.keys(KINDS) as Kind[]).flatMap((kind) =>
      Array.from({ length: load.programs }, (_, index) => runProgram({ endpoint, model, load, kind, index, kinds })),
    );
    const ended = await Promise.all(programs);
    await bus.nc.flush();
    await bus.nc.close();
    endpoint.close();
    if (broken !== undefined) throw broken;
    signal.throwIfAborted();
    // A call's id is known when it has ended.
    for (const report of reports) seen.report(report);
    return {
      shares: sharesOf(seen.calls.values()),
      failed: ended.reduce((sum, { failed }) => sum + failed, 0),
      toolCalls: ended.reduce((sum, { toolCalls }) => sum + toolCalls, 0),
    };
  } finally {
    await stack.stop();
  }
}

interface ProgramRun {
  endpoint: Endpoint;
  model: string;
  load: Load;
  kind: Kind;
  index: number;
  /** Kinds of ended calls, by id. */
  kinds: Map<string, Kind>;
}

/** Calls one after another, each with the answers before it. */
async function runProgram({ endpoint, model, load, kind, index, kinds }: ProgramRun) {
  const { tools, stream } = KINDS[kind];
  const result = { failed: 0, toolCalls: 0 };
  let history = `Search for the word number ${index} of the ${kind} list, then tell me about it.`;
  for (let i = 0; i < load.calls; i++) {
    const body: CallBody & { tools?: typeof TOOLS; tool_choice?: string } = {
      model,
      messages: [{ role: "user", content: history }],
      max_tokens: load.tokens,
      stream,
      // Every other call must use one; from the others the model may answer, or not.
      ...(tools ? { tools: TOOLS, tool_choice: i % 2 === 0 ? "required" : "auto" } : {}),
    };
    const answer = await endpoint.send(body, { "Autellix-Program-Id": `tools-${kind}-${index}` }, CALL_MS_MAX);
    if (!answer.complete || answer.error !== undefined) result.failed++;
    if (answer.callId !== undefined) kinds.set(answer.callId, kind);
    if (tools && answer.text === "") result.toolCalls++;
    history = `${history} ${answer.text} Go on.`;
  }
  return result;
}

await runInterruptible(main, "npm run bench:tools");
