#!/usr/bin/env node
/**
 * The way into every command of this repository, from a fresh clone: plain JavaScript that runs on Node 20 with
 * nothing installed. Installs what is missing, then runs the TypeScript entry on Node 24 and returns its exit code.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const ENTRY = join(ROOT, "services", "cli", "src", "main.ts");
const NODE_BIN = join(ROOT, "node_modules", ".bin", "node");
/** The first version that runs TypeScript as it is. */
const NODE_MAJOR_NEEDED = 24;
const NODE_MAJOR_MIN = 20;
/** An install that hangs (a registry that does not answer) must not hang the command for ever. */
const INSTALL_MS_MAX = 15 * 60_000;
const INSTALL_NOTICE_MS = 10_000;
/** npm hears of an interrupt, but was seen to go on for 15 s. */
const INSTALL_STOP_MS_MAX = 1_000;
/** One Ctrl-C arrives twice, from the terminal and forwarded by npm; only a later one is a second. */
const REPEAT_MS_MIN = 500;
const LOCK_POLL_MS = 500;
const OUTPUT_CHARS_MAX = 20_000;
const REASON_LINES_MAX = 8;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];

const say = (text) => process.stderr.write(`autellix: ${text}\n`);

let isNewEnough = false;
try {
  isNewEnough = await prepare();
  if (!isNewEnough && process.exitCode === undefined) process.exitCode = await runOnNewerNode();
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
// Outside of the try: what the entry throws is a defect, and shows its stack.
if (isNewEnough) await import(ENTRY);

/** Installs what is missing. @returns whether this Node can run the entry itself; sets the exit code when interrupted. */
async function prepare() {
  const major = Number(process.versions.node.split(".", 1)[0]);
  if (major < NODE_MAJOR_MIN)
    throw new Error(`Node ${process.versions.node} is too old; ${NODE_MAJOR_MIN} or newer is needed`);
  if (process.platform === "win32") throw new Error("Windows is not supported; use it inside WSL");
  const interrupted = await install();
  if (interrupted !== undefined) process.exitCode = 128 + constants.signals[interrupted];
  return interrupted === undefined && major >= NODE_MAJOR_NEEDED;
}

/** @returns the child's exit code. The child stops by itself when this process dies: it sees the channel close. */
async function runOnNewerNode() {
  const child = spawn(NODE_BIN, [ENTRY, ...process.argv.slice(2)], { stdio: ["inherit", "inherit", "inherit", "ipc"] });
  for (const signal of SIGNALS) process.on(signal, () => child.kill(signal));
  const [code, signal] = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (...result) => resolve(result));
  });
  return code ?? 128 + constants.signals[signal];
}

/** Runs `npm ci` unless what is installed is what the lock file says. @returns the signal that interrupted it. */
async function install() {
  if (isInstalled()) return undefined;
  const lock = join(tmpdir(), `autellix-install-${createHash("sha256").update(ROOT).digest("hex").slice(0, 16)}.lock`);
  const stop = stopSignal();
  let locked = false;
  try {
    locked = await takeLock(lock, stop);
    // Another process may have installed it while this one waited.
    if (!locked || isInstalled()) return stop.received;
    return await runNpmCi(lock, stop);
  } finally {
    if (locked) rmSync(lock, { force: true });
    stop.release();
  }
}

/**
 * npm writes its hidden lock file last, so it is there only after a whole install; and it must hold every package of
 * package-lock.json in the same version. Packages for other platforms are optional.
 */
function isInstalled() {
  const hidden = join(ROOT, "node_modules", ".package-lock.json");
  if (!existsSync(hidden) || !existsSync(NODE_BIN)) return false;
  const packages = (path) => JSON.parse(readFileSync(path, "utf8")).packages ?? {};
  const installed = packages(hidden);
  return Object.entries(packages(join(ROOT, "package-lock.json"))).every(([path, wanted]) => {
    const found = installed[path];
    if (path === "") return true;
    if (found === undefined) return wanted.optional === true || wanted.devOptional === true;
    return found.version === wanted.version && found.integrity === wanted.integrity;
  });
}

async function runNpmCi(lock, stop) {
  say("installing dependencies (npm ci), only needed once …");
  const args = [
    "ci",
    "--include=dev",
    "--include=optional",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "--no-progress",
  ];
  // A group of its own: a terminal's Ctrl-C must not end npm behind this process's back.
  const child = spawn("npm", args, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"], detached: true });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      output = (output + text).slice(0, OUTPUT_CHARS_MAX);
    });
  }
  const started = Date.now();
  const notice = setInterval(
    () => say(`still installing (${Math.round((Date.now() - started) / 1000)} s)`),
    INSTALL_NOTICE_MS,
  );
  let kill;
  const end = () => {
    signalGroup(child.pid, "SIGINT");
    kill ??= setTimeout(() => signalGroup(child.pid, "SIGKILL"), INSTALL_STOP_MS_MAX);
  };
  stop.onSignal = () => (kill === undefined ? end() : signalGroup(child.pid, "SIGKILL"));
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    end();
  }, INSTALL_MS_MAX);
  try {
    const code = await new Promise((resolve, reject) => {
      child.once("error", (cause) =>
        reject(new Error(`npm could not be started (${cause.message}); it comes with Node`)),
      );
      child.once("exit", (exitCode) => resolve(exitCode));
      // Whoever waits for the lock must wait for npm, even when this process is killed.
      if (child.pid !== undefined) writeFileSync(lock, String(child.pid));
    });
    if (stop.received !== undefined) return stop.received;
    if (late) throw new Error(`npm ci did not end within ${INSTALL_MS_MAX / 60_000} minutes`);
    if (code !== 0) throw new Error(`npm ci failed:\n${reasonOf(output)}`);
    return undefined;
  } finally {
    clearInterval(notice);
    clearTimeout(limit);
    clearTimeout(kill);
    if (child.pid !== undefined) signalGroup(child.pid, "SIGKILL");
  }
}

/** npm says first what is wrong, then pages of usage. */
function reasonOf(output) {
  const lines = output.trim().split("\n");
  const errors = lines.filter((line) => line.startsWith("npm error") && line.trim() !== "npm error");
  return (errors.length > 0 ? errors : lines).slice(0, REASON_LINES_MAX).join("\n");
}

/** @returns false when a signal came first. */
async function takeLock(lock, stop) {
  let told = false;
  while (stop.received === undefined) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx" });
      return true;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const pid = Number(existsSync(lock) ? readFileSync(lock, "utf8") : 0);
    if (pid > 0 && !isAlive(pid)) {
      rmSync(lock, { force: true });
      continue;
    }
    if (!told) say(`another process (${pid}) installs the dependencies; waiting for it …`);
    told = true;
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
  return false;
}

function stopSignal() {
  const stop = { received: undefined, onSignal: () => {}, release };
  let receivedAtMs = 0;
  const handlers = SIGNALS.map((signal) => [
    signal,
    () => {
      if (stop.received !== undefined && Date.now() - receivedAtMs < REPEAT_MS_MIN) return;
      stop.received ??= signal;
      receivedAtMs = Date.now();
      stop.onSignal();
    },
  ]);
  for (const [signal, handler] of handlers) process.on(signal, handler);
  function release() {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
  return stop;
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}
