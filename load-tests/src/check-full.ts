/**
 * `npm run check:full`: everything that takes too long for each change: soaks, benches and the whole evaluation, one
 * after another. Hours; the machine should do nothing else meanwhile.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { runInterruptible } from "./ending.ts";
import { parseFlags, UsageError } from "./options.ts";
import { formatTable } from "./table.ts";

/** Scripts of package.json, quick ones first. Each writes its results where it does by itself. */
const CHECKS: Record<string, readonly string[]> = {
  "bench:core": [],
  "bench:path": [],
  "bench:preemption": [],
  "bench:engine": [],
  "bench:frontends": [],
  "bench:tracing": [],
  "bench:observability": [],
  "bench:dashboard": [],
  "bench:gpu": [],
  "load:overload": [],
  "soak:memory": ["--over", "7"],
  "bench:live": ["--minutes", "60"],
  "bench:paper": ["--all"],
};
const HELP = `npm run check:full -- [options]: all that takes long, one after another
  --only A,B   of ${Object.keys(CHECKS).join(", ")}
`;

async function main(args: readonly string[], signal: AbortSignal): Promise<void> {
  const given = parseFlags(args, { only: { type: "string" }, help: { type: "boolean", short: "h" } });
  if (given.help) {
    process.stdout.write(HELP);
    return;
  }
  const names = given.only?.split(",") ?? Object.keys(CHECKS);
  const unknown = names.find((name) => CHECKS[name] === undefined);
  if (unknown !== undefined) throw new UsageError(`--only must name some of ${Object.keys(CHECKS).join(", ")}`);
  const rows: (string | number)[][] = [];
  for (const name of names) {
    signal.throwIfAborted();
    console.log(`\n── ${name}`);
    const startedMs = performance.now();
    // Ctrl-C reaches it, too: it ends by itself.
    const child = spawn("npm", ["run", "--silent", name, "--", ...(CHECKS[name] ?? [])], { stdio: "inherit" });
    const [code] = (await once(child, "exit")) as [number | null];
    rows.push([name, `${((performance.now() - startedMs) / 60_000).toFixed(1)} min`, code === 0 ? "yes" : "NO"]);
  }
  console.log(`\n${formatTable(["check", "took", "reached"], rows)}`);
  if (rows.some(([, , reached]) => reached !== "yes")) process.exitCode = 1;
}

await runInterruptible(main, "npm run check:full");
