/** `top` in a real terminal (tmux), as a person sees it: at two sizes, under load, resized, and gone without a trace. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needPrograms } from "../../../test/equipment/machine.ts";
import { startTestStack, type TestStack } from "../../../test/support/stack.ts";
import { cli, eventually } from "./observe-rig.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const run = promisify(execFile);
const INSTALL_MS_MAX = 300_000;

const missing = await needPrograms(
  { tmux: "tmux" },
  { env: process.env, signal: AbortSignal.timeout(INSTALL_MS_MAX), say: () => {} },
).then(
  () => undefined,
  (error: Error) => error.message,
);
if (missing !== undefined) {
  if (process.env.CI) throw new Error(missing);
  process.stdout.write(`skipped: ${missing}\n`);
}

let stack: TestStack;
let isLoaded = true;
let load: Promise<unknown> | undefined;
let calls = 0;
const PROGRAMS = 12;

async function chat(program: string): Promise<void> {
  const reply = await fetch(`${stack.urls[0]}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "autellix-program-id": program },
    body: JSON.stringify({
      model: "simulated",
      messages: [{ role: "user", content: "x".repeat(200) }],
      max_tokens: 40,
    }),
  });
  await reply.text();
  if (reply.ok) calls++;
}

beforeAll(async () => {
  if (missing !== undefined) return;
  stack = await startTestStack({ models: [], engines: 2, args: ["--engine", "simulated", "--preset", "smollm2-cpu"] });
  load = Promise.all(
    Array.from({ length: PROGRAMS }, async (_, n) => {
      for (let turn = 0; isLoaded; turn++) await chat(`agent-${n}-${Math.floor(turn / 4)}`);
    }),
  );
  await eventually(() => (calls > 20 ? true : undefined));
});
afterAll(async () => {
  isLoaded = false;
  await load;
  await stack?.stop();
});

class Terminal {
  readonly #name: string;

  private constructor(name: string) {
    this.#name = name;
  }

  static async open(command: string, columns: number, rows: number): Promise<Terminal> {
    const terminal = new Terminal(`autellix-top-${process.pid}-${Math.random().toString(36).slice(2)}`);
    // What stood on the terminal before must be there again.
    const shell = `echo BEFORE; ${command}; echo "AFTER code $?"; stty -a | grep -o -e '-\\?icanon' -e '-\\?echo ' | tr '\\n' ' '; sleep 600`;
    await terminal.#tmux(
      "-f",
      "/dev/null",
      "new-session",
      "-d",
      "-x",
      String(columns),
      "-y",
      String(rows),
      "sh",
      "-c",
      shell,
    );
    return terminal;
  }

  async #tmux(...args: string[]): Promise<string> {
    const { stdout } = await run("tmux", ["-L", this.#name, ...args], { cwd: ROOT });
    return stdout;
  }

  async lines(): Promise<string[]> {
    return (await this.#tmux("capture-pane", "-p")).split("\n").slice(0, -1);
  }

  async text(colors = false): Promise<string> {
    return await this.#tmux("capture-pane", "-p", ...(colors ? ["-e"] : []));
  }

  async until(pattern: RegExp): Promise<string> {
    return await eventually(async () => {
      const text = await this.text();
      return pattern.test(text) ? text : undefined;
    });
  }

  async type(...keys: string[]): Promise<void> {
    await this.#tmux("send-keys", ...keys);
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#tmux("resize-window", "-x", String(columns), "-y", String(rows));
  }

  async pids(): Promise<string[]> {
    const pane = (await this.#tmux("display-message", "-p", "#{pane_pid}")).trim();
    const { stdout } = await run("ps", ["-o", "pid=,args=", "--ppid", pane]);
    return stdout
      .split("\n")
      .filter((line) => line.includes("main.ts top"))
      .map((line) => line.trim().split(" ")[0] ?? "");
  }

  async close(): Promise<void> {
    await this.#tmux("kill-server");
  }
}

const top = (env = "") => `${env} ${process.execPath} services/cli/src/main.ts top --nats ${stack.natsUrl} --every 0.3`;
const FULL = /simulated-1 +\[[^\]]+\][\s\S]*PROGRAM[\s\S]*agent-/;

describe.skipIf(missing !== undefined)("top", () => {
  it.each([
    [80, 24],
    [200, 60],
  ])("is readable at %i×%i, and changes under load", async (columns, rows) => {
    const terminal = await Terminal.open(top(), columns, rows);
    try {
      const text = await terminal.until(FULL);
      const lines = await terminal.lines();
      expect(lines).toHaveLength(rows);
      expect(lines[0]).toMatch(/^ autellix top {2}nats:\/\/.*quit \(q\) {2}\d\d:\d\d:\d\d$/);
      expect(lines[1]).toMatch(/^ simulated {2}plas {2}running \d+ {2}waiting \d+ {2}ends [\d.]+\/s/);
      expect(lines[2]).toMatch(/^ {2}Q1 \d+ .*Q7 \d+/);
      // Both engines, their slots full of letters, and programs with the same letters.
      const letters = new Set(
        [...text.matchAll(/simulated-\d +\[([^\]·]+)·*\]/g)].flatMap(([, slots]) => [...(slots ?? "")]),
      );
      expect(letters.size).toBeGreaterThan(2);
      for (const letter of letters) expect(text).toMatch(new RegExp(`^ {2}${letter} agent-\\d+-\\d+ `, "m"));
      expect(await terminal.text(true)).toContain("\u001b[30m\u001b[48;5;");
      const body = (shown: string) => shown.split("\n").slice(1).join("\n");
      const seen = new Set([body(text)]);
      await eventually(async () => (seen.add(body(await terminal.text())).size >= 4 ? true : undefined));
      await terminal.type("q");
      const after = await terminal.until(/AFTER/);
      expect(after).toMatch(/BEFORE\nAFTER code 0\n/);
      expect(await terminal.until(/icanon/)).not.toMatch(/-icanon|-echo /);
    } finally {
      await terminal.close();
    }
  });

  it("follows the size, sorts, scrolls, and leaves with Ctrl-C and TERM as with q", async () => {
    const terminal = await Terminal.open(top("NO_COLOR=1"), 80, 24);
    try {
      await terminal.until(FULL);
      expect(await terminal.text(true)).not.toContain("48;5;");
      await terminal.resize(130, 30);
      await terminal.until(/ATTAINED/);
      expect(await terminal.lines()).toHaveLength(30);
      await terminal.resize(30, 8);
      await terminal.until(/too small/);
      await terminal.resize(80, 24);
      await terminal.until(FULL);
      await terminal.type("s");
      await terminal.until(/sort age/);
      await terminal.type("C-c");
      expect(await terminal.until(/AFTER/)).toMatch(/BEFORE\nAFTER code 0\n/);
    } finally {
      await terminal.close();
    }
    const other = await Terminal.open(top(), 80, 24);
    try {
      await other.until(FULL);
      const [pid] = await other.pids();
      process.kill(Number(pid), "SIGTERM");
      expect(await other.until(/AFTER/)).toMatch(/BEFORE\nAFTER code 143\n/);
      expect(await other.until(/icanon/)).not.toMatch(/-icanon|-echo /);
    } finally {
      await other.close();
    }
  });
});

describe.skipIf(missing !== undefined)("without a terminal", () => {
  it("top refuses, and its JSON is one picture in each line", async () => {
    expect(await cli("top", "--nats", stack.natsUrl)).toMatchObject({
      code: 1,
      err: "autellix: top needs a terminal; elsewhere use ps, or top --json\n",
    });
    const { code, out } = await cli("top", "--json", "--count", "3", "--every", "0.4", "--nats", stack.natsUrl);
    const pictures = out
      .trim()
      .split("\n")
      .map(
        (line) =>
          JSON.parse(line) as { schema: number; pools: { pool: string; engines: unknown[]; busiest: unknown[] }[] },
      );
    expect([code, pictures.length]).toEqual([0, 3]);
    expect(pictures[2]).toMatchObject({ schema: 1, command: "top", pools: [{ pool: "simulated", hasLeader: true }] });
    expect(pictures[2]?.pools[0]?.engines).toHaveLength(2);
    expect(pictures[2]?.pools[0]?.busiest.length).toBeGreaterThan(3);
  });

  it("the other commands agree with what clients see, as tables and as JSON", async () => {
    const json = async (...args: string[]) => JSON.parse((await cli(...args, "--json", "--nats", stack.natsUrl)).out);
    const programs = await json("programs", "--sort", "service");
    expect(programs.programs.map((one: { serviceMs: number }) => one.serviceMs)).toEqual(
      programs.programs.map((one: { serviceMs: number }) => one.serviceMs).toSorted((a: number, b: number) => b - a),
    );
    const ended = programs.programs.reduce(
      (sum: number, one: { calls: { ended: number } }) => sum + one.calls.ended,
      0,
    );
    expect(ended).toBeGreaterThan(20);
    expect(ended).toBeLessThanOrEqual(calls + PROGRAMS);
    const running = await json("calls", "--state", "running");
    for (const call of running.calls) expect(call).toMatchObject({ state: "running", pool: "simulated", attempt: 1 });
    expect((await json("engines")).engines.map((one: { engine: string }) => one.engine)).toEqual([
      "simulated-0",
      "simulated-1",
    ]);
    expect((await cli("ps", "--nats", stack.natsUrl)).out).toMatch(
      /^TENANT +PROGRAM +STATE[\s\S]*default +agent-\d+-\d+ +(running|waiting)/,
    );
    expect(await cli("ps", "--pool", "nobody", "--nats", stack.natsUrl)).toMatchObject({
      code: 1,
      err: 'autellix: there is no pool "nobody"; there is simulated\n',
    });
    const text = await cli("trace", "agent-0-0", "--nats", stack.natsUrl);
    expect(text.code).toBe(0);
    expect(text.out).toMatch(/^program agent-0-0 \(open\) in simulated: [\d.]+ s, 4 calls; calls waited/);
    expect(text.out.match(/^\S+ +[·█]+ +simulated-\d \d+\+40 tokens$/gm)?.length ?? text.out).toBe(4);
    expect(await cli("trace", "nobody", "--nats", stack.natsUrl)).toMatchObject({
      code: 1,
      err: expect.stringContaining('program "nobody" of tenant default is not known'),
    });
  });
});
