/** Real nats-servers with chosen settings, real services as processes, and the command line as a person runs it. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { obtainNatsServer, spawnTied } from "@autellix/runtime";
import { onTestFinished } from "vitest";
import { freePort } from "../../../test/support/nats.ts";
import type { Finding } from "../src/observe/doctor/evidence.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const MAIN = join(ROOT, "services/cli/src/main.ts");
const POLL_MS = 50;

/** Resolves with the first defined value of `probe`; the test's own time limit ends it. */
export async function eventually<T>(probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export interface RigNats {
  url: string;
  port: number;
  stop(): Promise<void>;
}

/** @param settings lines of its configuration beside its address; `JETSTREAM` becomes its store's folder. */
export async function startNats(settings: string, options: { bin?: string; port?: number } = {}): Promise<RigNats> {
  const bin = options.bin ?? (await obtainNatsServer({ env: process.env })).path;
  const folder = await mkdtemp(join(tmpdir(), "autellix-doctor-"));
  const port = options.port ?? (await freePort());
  const file = join(folder, "nats.conf");
  await writeFile(
    file,
    `listen: "127.0.0.1:${port}"\n${settings.replaceAll("JETSTREAM", JSON.stringify(join(folder, "js")))}\n`,
  );
  const child = spawnTied(bin, ["--config", file], { env: process.env });
  const stop = async () => {
    await child.end();
    await rm(folder, { recursive: true, force: true });
  };
  onTestFinished(stop);
  return { url: `nats://127.0.0.1:${port}`, port, stop };
}

export const JETSTREAM = "jetstream { store_dir: JETSTREAM }";

export interface RigService {
  /** All that it has written so far. */
  said(): string;
  stop(): Promise<void>;
}

/** One service as a process of its own; it ends with the test. */
export function startService(name: string, natsUrl: string, env: Readonly<Record<string, string>>): RigService {
  const child = spawnTied(process.execPath, [join(ROOT, "services", name, "src/main.ts")], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, AUTELLIX_NATS_URL: natsUrl, ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  let said = "";
  for (const stream of [child.process.stdout, child.process.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-100_000);
    });
  }
  const stop = () => child.end();
  onTestFinished(stop);
  return { said: () => said, stop };
}

export const simulated = (engine: string, pool = "sim") => ({
  AUTELLIX_POOL: pool,
  AUTELLIX_ENGINE_ID: engine,
  AUTELLIX_ENGINE: "simulated",
  AUTELLIX_ENGINE_PRESET: "zero",
  AUTELLIX_MODEL_NAMES: "sim",
});

/** What a person types behind `autellix`. */
export async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawnTied(process.execPath, [MAIN, ...args], {
    env: { ...process.env, NATS_URL: "" },
    stdout: "pipe",
    stderr: "pipe",
  });
  const output = { out: "", err: "" };
  child.process.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output.out += text;
  });
  child.process.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output.err += text;
  });
  const closed = new Promise<void>((resolve) => child.process.once("close", () => resolve()));
  const code = await child.exited;
  await closed;
  return { code, ...output };
}

export interface Diagnosis {
  code: number;
  ok: boolean;
  findings: Finding[];
  /** Texts of what is wrong. */
  wrong: string[];
}

export async function diagnose(url: string, ...args: string[]): Promise<Diagnosis> {
  const { code, out, err } = await cli("doctor", "--json", "--nats", url, ...args);
  if (out === "") throw new Error(`doctor said nothing: ${err}`);
  const { ok, findings } = JSON.parse(out) as { ok: boolean; findings: Finding[] };
  return { code, ok, findings, wrong: findings.filter(({ level }) => level === "wrong").map(({ text }) => text) };
}

/** Asks until the diagnosis is as wanted: services need a moment to start. @throws the last one, when it never is. */
export async function diagnosed(
  url: string,
  isWanted: (seen: Diagnosis) => boolean,
  ...args: string[]
): Promise<Diagnosis> {
  const untilMs = performance.now() + 40_000;
  for (;;) {
    const seen = await diagnose(url, ...args);
    if (isWanted(seen)) return seen;
    if (performance.now() > untilMs)
      throw new Error(
        `doctor says otherwise:\n${seen.findings.map(({ level, text }) => `${level} ${text}`).join("\n")}`,
      );
  }
}
