/**
 * `npm run demo:policies`: what scheduling by program is for, seen on the real engine. The same programs run first
 * under `fcfs` (first come, first served), then under `plas` (who has had least is served first): one after the other,
 * because two stacks at once would share this machine's cores and measure each other.
 */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { policyName } from "./bench-core/load.ts";
import { compare, type Side } from "./compare.ts";
import { closeLine, progressText, say, showStatus } from "./console.ts";
import { demoWorkload } from "./demo-workload.ts";
import { commandLine, describeMachine } from "./machine.ts";
import { number, parseFlags } from "./options.ts";
import { latencyPlot, merged, RESULTS_FOLDER, type Report, type Variant, writeReport } from "./report.ts";
import { type Spread, spread } from "./stats.ts";
import { formatMs, formatTable } from "./table.ts";
import type { ProgramSpec } from "./workload.ts";

/** An answer that has not come after this time will not come. */
const PROGRAM_MS_MAX = 600_000;

const HELP = `npm run demo:policies -- [options]: the same programs under two policies, one after the other.

  --model MODEL     as for npm start: a file, hf:… or tiny (default: what npm start takes)
  --policies A,B    (default fcfs,plas)
  --seed N          (default 1)
  --scale F         multiplies the long programs' calls: 2 takes about twice the time (default 1)
  --out FOLDER      of the result (default load-tests/results)
`;

const values = demoOptions();
const { seed, scale } = values;
const model = values.model === "tiny" ? "tiny" : "small";
const [first = "fcfs", second = "plas"] = (values.policies ?? "fcfs,plas").split(",").map(policyName);
/** Where the dashboard of `npm start` looks for runs to replay. */
const recordings = resolve(import.meta.dirname, "../../.data/recordings");
const RECORDING = "demo-policies";
const sides: Side[] = [first, second].map((policy) => ({
  name: policy,
  stackArgs: [
    ...(values.model === undefined ? [] : ["--model", values.model]),
    ...["--engines", "1", "--frontends", "1", "--policy", policy, "--log-level", "warn"],
    ...["--input-log", join(recordings, `${RECORDING}.${policy}.jsonl`)],
  ],
}));
const programs = demoWorkload({ seed, model, scale });

const stop = new AbortController();
// One Ctrl-C can arrive twice, from the terminal and forwarded by a parent.
process.on("SIGINT", () => stop.abort());
await forgetRecordings();
say(`The same ${programs.length} programs, first under ${first}, then under ${second}. About a minute each.`);
const variants = await compare({
  sides,
  rounds: 1,
  programsOf: () => programs,
  // Each call is a conversation of its own: on a CPU, reading a history again would hide what is to be seen.
  run: {
    seed,
    programNames: namesOf(programs),
    contextTokensMax: 1,
    callMsMax: PROGRAM_MS_MAX,
    drainMsMax: PROGRAM_MS_MAX,
  },
  signal: stop.signal,
  onPhase: say,
  onStack: showStatus,
  onProgress: (side, progress) => showStatus(progressText(side, progress)),
});
closeLine();

/** Ends the process for help, and for mistakes of the caller's: nothing has been started or removed yet. */
function demoOptions() {
  try {
    const text = { type: "string" } as const;
    const flags = {
      model: text,
      policies: text,
      seed: text,
      scale: text,
      out: text,
      help: { type: "boolean" },
    } as const;
    const given = parseFlags(process.argv.slice(2), flags);
    for (const policy of given.policies?.split(",") ?? []) policyName(policy);
    const seed = number("seed", given.seed, 1, 0, 2 ** 31);
    const scale = number("scale", given.scale, 1, 0.05, 100);
    if (given.help !== true) return { ...given, seed, scale };
    process.stdout.write(HELP);
    process.exit(0);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(2);
  }
}

/** `long-1`, `short-1`, …: what the replay shows. */
function namesOf(programs: readonly ProgramSpec[]): string[] {
  const counts = new Map<string, number>();
  return programs.map(({ kind }) => {
    const number = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, number);
    return `${kind}-${number}`;
  });
}

/** The replay shows the last run, not one of this and one of another. */
async function forgetRecordings(): Promise<void> {
  await mkdir(recordings, { recursive: true });
  const old = (await readdir(recordings)).filter((name) => name.startsWith(`${RECORDING}.`));
  await Promise.all(old.map((name) => rm(join(recordings, name))));
}

interface Fate {
  policy: string;
  /** Arrival to end, ms. */
  short: Spread;
  long: Spread;
  finished: number;
}

function fateOf(variant: Variant): Fate {
  const all = merged(variant).programs.filter((program) => program.status === "finished");
  const times = (kind: string) => spread(all.filter((program) => program.kind === kind).map((p) => p.totalMs));
  return { policy: variant.name, short: times("short"), long: times("long"), finished: all.length };
}

const fates = variants.map(fateOf);

const table = formatTable(
  ["policy", "short programs: mean", "95 % within", "long programs: mean", "95 % within", "finished"],
  fates.map(({ policy, short, long, finished }) => [
    policy,
    formatMs(short.mean),
    formatMs(short.p95),
    formatMs(long.mean),
    formatMs(long.p95),
    `${finished} of ${programs.length}`,
  ]),
);

function inWords([a, b]: readonly Fate[]): string {
  if (!a || !b) return "";
  const short = a.short.mean / b.short.mean;
  const long = b.long.mean / a.long.mean - 1;
  return [
    `Times are from a program's arrival to the end of its last call.`,
    `With ${b.policy}, short programs finish ${short.toFixed(1)} times as fast as with ${a.policy} on average; long ones take ${Math.abs(100 * long).toFixed(0)} % ${long < 0 ? "less" : "more"}.`,
  ].join("\n");
}

const text = `${table}\n\n${inWords(fates)}`;
const command = commandLine("demo:policies", process.argv.slice(2));
const report: Report = {
  name: "demo-policies",
  machine: await describeMachine(command),
  load: { seed, model, scale, programs: programs.length, order: "one after the other" },
  variants,
};
const folder = await writeReport(values.out ?? RESULTS_FOLDER, report, text, { latency: latencyPlot(report) });
console.log(`\n${text}\n\nwritten to ${folder}`);
console.log("watch both runs side by side: npm start, then http://127.0.0.1:8090/replay");
if (fates.some((fate) => fate.finished < programs.length)) {
  console.error("not every program finished");
  process.exitCode = 1;
}
