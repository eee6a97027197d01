/** Docker compose v2: the one that is installed, or built from the sources that its makers publish. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, runChild } from "@autellix/runtime";
import { obtainFolder } from "../engines/equipment/folder.ts";
import type { Env } from "../engines/equipment/python.ts";

const VERSION = "2.40.3";
const MODULE = "github.com/docker/compose/v2/cmd";
/** 75 s on two idle cores. */
const BUILD_MS_MAX = 15 * 60_000;
const ANSWER_MS_MAX = 20_000;

/** @returns how it is called. @throws Error that says in one line what is missing. */
export async function obtainCompose(options: {
  env: Env;
  signal: AbortSignal;
  say(text: string): void;
}): Promise<readonly [string, ...string[]]> {
  const { env, signal } = options;
  for (const command of [["docker", "compose"], ["docker-compose"]] as const)
    if (await isUsable(command, env, signal)) return command;
  const say = (text: string) => options.say(`docker compose: ${text}`);
  const path = (folder: string) => join(folder, "docker-compose");
  const folder = await obtainFolder({
    cache: join(cacheDir(env), "containers"),
    name: `compose-${VERSION}`,
    signal,
    say,
    async check(place) {
      if (!(await isUsable([path(place)], env, signal))) throw new Error("it does not say its version");
    },
    async make(place) {
      say(`building ${VERSION}, which takes a minute or more …`);
      const limit = AbortSignal.any([signal, AbortSignal.timeout(BUILD_MS_MAX)]);
      const module = join(place, "module");
      await mkdir(module, { recursive: true });
      // No Go workspace and no flags of the person's own.
      const go = { ...env, GOFLAGS: "", GOWORK: "off", CGO_ENABLED: "0" };
      const run = (args: string[]) => runChild("go", args, { env: go, cwd: module, signal: limit });
      await run(["version"]).catch(() => {
        signal.throwIfAborted();
        throw new Error("there is no docker compose v2 (Docker's package docker-compose-plugin); building it needs Go");
      });
      await writeFile(join(module, "go.mod"), "module scratch\n");
      await run(["get", `${MODULE}@v${VERSION}`]);
      // The version is told to the linker by its own makefile, too.
      const flags = `-s -w -X github.com/docker/compose/v2/internal.Version=v${VERSION}`;
      await run(["build", "-trimpath", "-ldflags", flags, "-o", path(place), MODULE]);
    },
  });
  return [path(folder)];
}

async function isUsable([command, ...args]: readonly [string, ...string[]], env: Env, signal: AbortSignal) {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
  const said = await runChild(command, [...args, "version", "--short"], { env, signal: limit }).then(
    ({ stdout }) => stdout.trim(),
    () => "",
  );
  signal.throwIfAborted();
  // Version 1 is another program.
  return Number(/^v?(\d+)\./.exec(said)?.[1] ?? 0) >= 2;
}
