/** The machine's own Python, which installs what is published for it. */
import { runChild } from "@autellix/runtime";

export type Env = Readonly<Record<string, string | undefined>>;

/** What runs here asks no model hub, and tells nobody that it runs. */
export const OFFLINE: Env = { HF_HUB_OFFLINE: "1", VLLM_NO_USAGE_STATS: "1", DO_NOT_TRACK: "1" };

const PROBE = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])";

/**
 * @param version such as `3.11`; any Python 3 when left out.
 * @returns the command. @throws Error that says what to do, in one line.
 */
export async function findPython(env: Env, signal: AbortSignal, version?: string): Promise<string> {
  for (const command of version === undefined ? ["python3"] : [`python${version}`, "python3"]) {
    const found = await runChild(command, ["-c", PROBE], { env, signal }).then(
      ({ stdout }) => stdout.trim(),
      () => undefined,
    );
    signal.throwIfAborted();
    if (found !== undefined && (version === undefined || found === version)) return command;
  }
  const name = `python${version ?? "3"}`;
  throw new Error(`it needs Python ${version ?? "3"} with venv (Debian: apt-get install ${name}-venv)`);
}

/** Arguments of every `pip install` here: nothing is asked, resolved or compiled. */
export const PIP_INSTALL: readonly string[] = [
  "-m",
  "pip",
  "install",
  "--quiet",
  "--no-input",
  "--disable-pip-version-check",
  // Three gigabytes that nobody needs twice.
  "--no-cache-dir",
  "--no-deps",
  "--only-binary=:all:",
];
