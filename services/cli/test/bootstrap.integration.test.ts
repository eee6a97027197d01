/** `scripts/start.mjs` in a small repository of its own, whose one dependency stands for the npm package `node`. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { isRunning } from "./system.ts";

const SCRIPT = fileURLToPath(new URL("../../../scripts/start.mjs", import.meta.url));
const GONE = { timeout: 20_000, interval: 50 };

describe("scripts/start.mjs", () => {
  let root: string;
  const locks = () =>
    readdirSync(tmpdir()).filter(
      (name) => name === `autellix-install-${createHash("sha256").update(root).digest("hex").slice(0, 16)}.lock`,
    );

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "autellix-test-"));
    onTestFinished(() => rm(root, { recursive: true, force: true }));
    await mkdir(join(root, "scripts"));
    await cp(SCRIPT, join(root, "scripts", "start.mjs"));
    await file(
      "services/cli/src/main.ts",
      "const text: string = process.argv.slice(2).join();\nconsole.log('entry', text);\nprocess.exitCode = 7;\nif (process.connected) process.disconnect();\n",
    );
    await file("node/package.json", JSON.stringify({ name: "node", version: "24.0.0", bin: { node: "node.sh" } }));
    await file("node/node.sh", `#!/bin/sh\nexec ${process.execPath} "$@"\n`);
    await chmod(join(root, "node", "node.sh"), 0o755);
    await file(
      "package.json",
      JSON.stringify({ name: "mini", version: "1.0.0", type: "module", workspaces: ["node"] }),
    );
    await file(
      "package-lock.json",
      JSON.stringify({
        name: "mini",
        version: "1.0.0",
        lockfileVersion: 3,
        packages: {
          "": { name: "mini", version: "1.0.0", workspaces: ["node"] },
          node: { version: "24.0.0", bin: { node: "node.sh" } },
          "node_modules/node": { resolved: "node", link: true },
        },
      }),
    );
  });

  async function file(path: string, text: string): Promise<void> {
    await mkdir(join(root, path, ".."), { recursive: true });
    await writeFile(join(root, path), text);
  }

  function run(args: string[] = [], env: Record<string, string> = {}) {
    const child = spawn(process.execPath, [join(root, "scripts", "start.mjs"), ...args], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (output += text));
    return { child, output: () => output, exited: once(child, "close").then(([code]) => code as number | null) };
  }

  /** An npm that says its pid and then hangs, as one that waits for the network does. */
  async function hangingNpm(): Promise<{ env: Record<string, string>; pid(): Promise<number> }> {
    await file("bin/npm", `#!/bin/sh\necho $$ > ${root}/npm.pid\nexec sleep 1000\n`);
    await chmod(join(root, "bin", "npm"), 0o755);
    const path = join(root, "npm.pid");
    return {
      env: { PATH: `${join(root, "bin")}:${process.env.PATH}` },
      async pid() {
        await vi.waitUntil(() => existsSync(path), GONE);
        return vi.waitUntil(async () => Number(await readFile(path, "utf8")), GONE);
      },
    };
  }

  it("installs what is missing, once, and returns the exit code of the entry", async () => {
    const first = run(["start", "--port", "1"]);
    expect(await first.exited).toBe(7);
    expect(first.output()).toBe(
      "autellix: installing dependencies (npm ci), only needed once …\nentry start,--port,1\n",
    );
    const second = run(["test"]);
    expect(await second.exited).toBe(7);
    expect(second.output()).toBe("entry test\n");
  });

  it("installs again when the lock file asks for another version", async () => {
    await run().exited;
    const lock = await readFile(join(root, "package-lock.json"), "utf8");
    await file("package-lock.json", lock.replaceAll("24.0.0", "24.0.1"));
    await file("node/package.json", JSON.stringify({ name: "node", version: "24.0.1", bin: { node: "node.sh" } }));
    const again = run();
    await again.exited;
    expect(again.output()).toContain("installing dependencies");
  });

  it("lets two at once install only once", async () => {
    const both = [run(), run()];
    expect(await Promise.all(both.map(({ exited }) => exited))).toEqual([7, 7]);
    expect(both.map(({ output }) => output().includes("installing dependencies")).sort()).toEqual([false, true]);
    expect(locks()).toEqual([]);
  });

  it("says what npm says when it fails", async () => {
    await file("bin/npm", "#!/bin/sh\necho the registry is gone >&2\nexit 1\n");
    await chmod(join(root, "bin", "npm"), 0o755);
    const { exited, output } = run([], { PATH: `${join(root, "bin")}:${process.env.PATH}` });
    expect(await exited).toBe(1);
    expect(output()).toContain("autellix: npm ci failed:\nthe registry is gone\n");
  });

  it("leaves no npm and no lock behind on Ctrl-C, and installs at the next start", async () => {
    const npm = await hangingNpm();
    const { child, exited } = run([], npm.env);
    const pid = await npm.pid();
    child.kill("SIGINT");
    expect(await exited).toBe(130);
    await vi.waitUntil(() => !isRunning(pid), GONE);
    expect(locks()).toEqual([]);
    expect(await run().exited).toBe(7);
  });

  it("passes signals on to the entry", async () => {
    await run().exited;
    await file(
      "services/cli/src/main.ts",
      'process.on("SIGTERM", () => process.exit(9));\nsetInterval(() => {}, 1000);\nconsole.log("waiting");\n',
    );
    const { child, exited } = run();
    await once(child.stdout as NonNullable<ChildProcess["stdout"]>, "data");
    child.kill("SIGTERM");
    expect(await exited).toBe(9);
  });
});
