import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, it, vi } from "vitest";
import { spawnTied } from "../src/index.ts";
import { ChildError, runChild } from "../src/parts/child.ts";
import { isAlive } from "./support.ts";

const never = new AbortController().signal;
const env = process.env;
/** The watcher gives the program 3 s to follow TERM. */
const GONE = { timeout: 20_000, interval: 50 };

describe("runChild", () => {
  it("gives the output of a program", async () => {
    const { stdout, stderr } = await runChild("/bin/sh", ["-c", "echo out; echo err >&2"], { env, signal: never });
    expect([stdout, stderr]).toEqual(["out\n", "err\n"]);
  });

  it("passes arguments untouched", async () => {
    const args = ["a b", "$HOME", "'", '"', "*"];
    const { stdout } = await runChild("/usr/bin/printf", ["%s\n", ...args], { env, signal: never });
    expect(stdout.trimEnd().split("\n")).toEqual(args);
  });

  it("says the last line of a program that failed", async () => {
    const run = runChild("/bin/sh", ["-c", "echo first >&2; echo last >&2; exit 3"], { env, signal: never });
    await expect(run).rejects.toThrow(new ChildError("last", 3));
  });

  it("says when a program is not installed", async () => {
    await expect(runChild("no-such-program", [], { env, signal: never })).rejects.toThrow(
      "no-such-program is not installed",
    );
  });

  it("kills the program and what that started when it is aborted", async () => {
    const abort = new AbortController();
    const child = spawnTied("/bin/sh", ["-c", "sleep 1000 & echo $!; wait"], { env, stdout: "pipe" });
    const [pid] = await once(child.process.stdout?.setEncoding("utf8") ?? child.process, "data");
    await child.end();
    await vi.waitUntil(() => !isAlive(Number(pid)), GONE);

    const run = runChild("/bin/sh", ["-c", "sleep 1000"], { env, signal: abort.signal });
    abort.abort(new Error("enough"));
    await expect(run).rejects.toThrow("enough");
  });
});

describe("a tied child", () => {
  it("ends with its parent, though that was killed with -9 and it ignores TERM", async () => {
    const parent = spawn(process.execPath, [fileURLToPath(new URL("fixtures/parent.ts", import.meta.url))], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(parent.stdout.setEncoding("utf8"), "data");
    const pids = String(line).trim().split(" ").map(Number);
    expect(pids.filter(isAlive)).toHaveLength(2);
    parent.kill("SIGKILL");
    await vi.waitUntil(() => !pids.some(isAlive), GONE);
  });

  it("follows TERM", async () => {
    const child = spawnTied("/bin/sh", ["-c", "echo runs; exec sleep 1000"], { env, stdout: "pipe" });
    await once(child.process.stdout ?? child.process, "data");
    child.terminate();
    expect(await child.exited).toBe(128 + 15);
    expect(isAlive(-child.groupId)).toBe(false);
  });

  it("leaves no watcher behind when it ends by itself", async () => {
    const child = spawnTied("/bin/sh", ["-c", "exit 5"], { env });
    expect(await child.exited).toBe(5);
    expect(isAlive(-child.groupId)).toBe(false);
  });
});
