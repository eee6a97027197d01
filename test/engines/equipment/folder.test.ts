import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type MakeOptions, obtainFolder } from "./folder.ts";

const HOST = hostname().replace(/[^A-Za-z0-9]/g, "_");
let cache: string;
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), "autellix-folder-"));
});
afterEach(() => rm(cache, { recursive: true }));

/** Obtains `thing-1`, whose making writes a file `whole` at its end. */
function obtain(options: Partial<MakeOptions> = {}): Promise<string> {
  return obtainFolder({
    cache,
    name: "thing-1",
    signal: AbortSignal.timeout(20_000),
    say: () => {},
    check: async (folder) => {
      if ((await readFile(join(folder, "whole"), "utf8")) !== "yes") throw new Error("it is cracked");
    },
    make: (folder) => writeFile(join(folder, "whole"), "yes"),
    ...options,
  });
}

/** A folder that another process is making, or has left. */
async function partial(owner: string, beatAgeMs: number): Promise<string> {
  const folder = join(cache, `thing-1.partial-${owner}`);
  await mkdir(folder);
  await writeFile(join(folder, "half"), "");
  await writeFile(join(folder, "working"), "");
  const beat = new Date(Date.now() - beatAgeMs);
  await utimes(join(folder, "working"), beat, beat);
  return folder;
}

async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ["--version"], { stdio: "ignore" });
  await new Promise((done) => child.once("exit", done));
  return child.pid as number;
}

describe("obtainFolder", () => {
  it("makes it once", async () => {
    const folder = await obtain();
    expect(folder).toBe(join(cache, "thing-1"));
    expect(await obtain({ make: () => Promise.reject(new Error("made twice")) })).toBe(folder);
    expect(await readdir(cache)).toEqual(["thing-1"]);
  });

  it("never leaves a half-made one in its place, and goes on with what was made", async () => {
    await expect(
      obtain({
        make: async (folder) => {
          await writeFile(join(folder, "half"), "");
          throw new Error("the network is gone");
        },
      }),
    ).rejects.toThrow("the network is gone");
    expect((await readdir(cache)).includes("thing-1")).toBe(false);
    const folder = await obtain();
    expect((await readdir(folder)).sort()).toEqual(["half", "ready.json", "whole"]);
    expect(await readdir(cache)).toEqual(["thing-1"]);
  });

  it("does not take a folder for whole that was interrupted at its last moment", async () => {
    const stop = new AbortController();
    const making = obtain({
      signal: stop.signal,
      make: async (folder) => {
        await writeFile(join(folder, "whole"), "yes");
        stop.abort(new Error("stopped"));
      },
    });
    await expect(making).rejects.toThrow("stopped");
    expect((await readdir(cache)).includes("thing-1")).toBe(false);
  });

  it("makes one anew that is broken, and says so", async () => {
    const folder = await obtain();
    await writeFile(join(folder, "whole"), "no");
    const said: string[] = [];
    expect(await obtain({ say: (text) => said.push(text) })).toBe(folder);
    expect(said).toEqual([`${folder} is broken (it is cracked); it is made anew`]);
    expect(await readFile(join(folder, "whole"), "utf8")).toBe("yes");
    expect(await readdir(cache)).toEqual(["thing-1"]);
  });

  it.each([
    ["dead", 0, async () => `${HOST}-${await deadPid()}`],
    ["on another host, silent for a minute", 60_000, async () => "elsewhere-1"],
    // Its pid belongs to somebody else by now.
    ["alive by its pid, silent for a minute", 60_000, async () => `${HOST}-${process.ppid}`],
  ])("goes on with the work of a process that is %s", async (_, beatAgeMs, owner) => {
    await partial(await owner(), beatAgeMs);
    const folder = await obtain();
    expect((await readdir(folder)).sort()).toEqual(["half", "ready.json", "whole"]);
    expect(await readdir(cache)).toEqual(["thing-1"]);
  });

  it.each([
    ["of this host", async () => `${HOST}-${process.ppid}`],
    ["of another host", async () => "elsewhere-1"],
  ])("waits while a process %s works on it", async (_, owner) => {
    const other = await partial(await owner(), 0);
    const said: string[] = [];
    const waiting = obtain({
      say: (text) => {
        said.push(text);
        // The other one gives up as soon as this one waits for it.
        void rm(join(other, "working"));
      },
    });
    const folder = await waiting;
    expect(said).toEqual(["another process is making it; waiting …"]);
    expect((await readdir(folder)).sort()).toEqual(["half", "ready.json", "whole"]);
  });

  it("is made once by two processes that begin together", async () => {
    const script = join(cache, "obtain.ts");
    const source = new URL("folder.ts", import.meta.url).href;
    await writeFile(
      script,
      `import { appendFile, writeFile } from "node:fs/promises";
       import { setTimeout as pause } from "node:timers/promises";
       import { obtainFolder } from ${JSON.stringify(source)};
       await obtainFolder({
         cache: ${JSON.stringify(join(cache, "shared"))}, name: "thing-1", signal: new AbortController().signal,
         say: () => {}, check: async () => {},
         make: async (folder) => {
           await appendFile(${JSON.stringify(join(cache, "made"))}, "x");
           await pause(300);
         },
       });`,
    );
    const codes = await Promise.all(
      Array.from({ length: 3 }, () => {
        const child = spawn(process.execPath, [script], { stdio: "inherit" });
        return new Promise((done) => child.once("exit", done));
      }),
    );
    expect(codes).toEqual([0, 0, 0]);
    expect(await readFile(join(cache, "made"), "utf8")).toBe("x");
    expect(await readdir(join(cache, "shared"))).toEqual(["thing-1"]);
  });
});
