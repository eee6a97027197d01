import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, stat, statfs, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HostTier, LEFT_AGE_MS_MAX } from "../src/host-tier.ts";
import { isOwnerAlive, ownerName } from "../src/owner.ts";

let dir: string;
let warnings: string[];
const open: HostTier[] = [];
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "autellix-tier-"));
  warnings = [];
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((tier) => tier.close()));
  await rm(dir, { recursive: true, force: true });
});

async function make(bytesMax: number | undefined): Promise<HostTier> {
  const tier = await HostTier.open({ dir, bytesMax, warn: (sentence) => warnings.push(sentence) });
  if (tier === undefined) throw new Error(`no tier: ${warnings}`);
  open.push(tier);
  return tier;
}

function write(bytes: number): (path: string) => Promise<number> {
  return async (path) => {
    await writeFile(path, Buffer.alloc(bytes));
    return bytes;
  };
}

const base = () => join(dir, `autellix-${process.getuid?.() ?? "user"}`);
const kept = async () => (await readdir(base(), { recursive: true })).filter((name) => name.endsWith(".kv")).length;

describe("the host tier", () => {
  it("holds files up to its limit, and has room again when one goes", async () => {
    const tier = await make(1_000);
    const [a, b] = [await tier.save(600, write(600)), await tier.save(600, write(600))];
    expect([a?.bytes, b, tier.bytes]).toEqual([600, undefined, 600]);
    if (a === undefined) throw new Error("not saved");
    await tier.remove(a);
    expect([await kept(), tier.bytes]).toEqual([0, 0]);
    expect(await tier.save(1_000, write(1_000))).toBeDefined();
    expect((await tier.save(1, write(1)))?.bytes).toBeUndefined();
  });

  it("takes a failed or cut-off write for no room, and keeps nothing of it", async () => {
    const tier = await make(1_000);
    const fails = async (path: string) => {
      await writeFile(path, "half");
      throw new Error("no space left on device");
    };
    expect(await tier.save(100, fails)).toBeUndefined();
    const cut = async (path: string) => {
      await writeFile(path, "half");
      return 100;
    };
    expect(await tier.save(100, cut)).toBeUndefined();
    expect([await kept(), tier.bytes]).toEqual([0, 0]);
  });

  it("takes no more than the file system has free, and says so in a sentence", async () => {
    const { bavail, bsize } = await statfs(dir);
    const tier = await make(bavail * bsize * 4);
    expect(tier.bytesMax).toBeLessThanOrEqual(bavail * bsize * 1.5);
    expect(warnings).toEqual([
      expect.stringMatching(/^The host tier for KV has only \d+ MiB, since .* has \d+ MiB free: /),
    ]);
    expect(await tier.save(tier.bytesMax * 4, write(1))).toBeUndefined();
  });

  it("takes a gigabyte by default, where there is twice that", async () => {
    const { bavail, bsize } = await statfs(dir);
    const tier = await make(undefined);
    expect(tier.bytesMax).toBeLessThanOrEqual(1024 ** 3);
    if (bavail * bsize > 3 * 1024 ** 3) expect([tier.bytesMax, warnings]).toEqual([1024 ** 3, []]);
  });

  it("is off at 0, and where its folder cannot be used", async () => {
    const off = { dir, bytesMax: 0, warn: (sentence: string) => warnings.push(sentence) };
    expect([await HostTier.open(off), warnings]).toEqual([undefined, []]);
    const file = join(dir, "file");
    await writeFile(file, "");
    expect(await HostTier.open({ ...off, dir: file, bytesMax: 10 })).toBeUndefined();
    expect(warnings.pop()).toMatch(/^There is no host tier for KV: /);
    await mkdir(base());
    await chmod(base(), 0o777);
    expect(await HostTier.open({ ...off, bytesMax: 10 })).toBeUndefined();
    expect(warnings.pop()).toMatch(/others may write to/);
  });

  it("keeps its files from other users", async () => {
    await make(1_000);
    expect((await stat(base())).mode & 0o077).toBe(0);
  });

  it("gives what was left to the one who asks first under its name", async () => {
    const [giver, taker] = [await make(1_000), await make(1_000)];
    const file = await giver.save(100, write(100));
    if (file === undefined) throw new Error("not saved");
    await giver.leave("name", file, { ids: [1, 2] });
    expect([giver.bytes, await taker.claim("other")]).toEqual([0, undefined]);
    const claims = await Promise.all([taker.claim("name"), giver.claim("name")]);
    const [got] = claims.filter((claim) => claim !== undefined);
    expect([claims.filter((claim) => claim === undefined).length, got?.header, got?.file.bytes]).toEqual([
      1,
      { ids: [1, 2] },
      100,
    ]);
    expect(taker.bytes + giver.bytes).toBe(100);
  });

  it("counts the age of what was left from then on, however long ago it was swapped out", async () => {
    const [giver, taker] = [await make(1_000), await make(1_000)];
    const file = await giver.save(100, write(100));
    if (file === undefined) throw new Error("not saved");
    const swappedAt = new Date(Date.now() - LEFT_AGE_MS_MAX - 60_000);
    await utimes(file.path, swappedAt, swappedAt);
    await giver.leave("name", file, {});
    // Any save looks for what is too old.
    expect(await taker.save(100, write(100))).toBeDefined();
    expect(await taker.claim("name")).toBeDefined();
  });

  it("drops what was left when it needs the room, oldest first, and what is too old", async () => {
    const tier = await make(1_000);
    for (const [name, ageMs] of [
      ["old", LEFT_AGE_MS_MAX + 5_000],
      ["older", 60_000],
      ["newer", 0],
    ] as const) {
      const file = await tier.save(300, write(300));
      if (file === undefined) throw new Error("not saved");
      await tier.leave(name, file, {});
      const at = new Date(Date.now() - ageMs);
      for (const end of ["kv", "json"]) await utimes(join(base(), "left", `${name}.${end}`), at, at);
    }
    expect(await tier.save(500, write(500))).toBeDefined();
    expect(await Promise.all(["old", "older", "newer"].map((name) => tier.claim(name)))).toEqual([
      undefined,
      undefined,
      expect.anything(),
    ]);
  });

  it("removes what a killed process has left, at the next start, and nothing of a living one", async () => {
    const living = await make(1_000);
    const file = await living.save(10, write(10));
    const source = new URL("../src/host-tier.ts", import.meta.url).href;
    const script = `import { HostTier } from ${JSON.stringify(source)};
      import { writeFile } from "node:fs/promises";
      const tier = await HostTier.open({ dir: ${JSON.stringify(dir)}, bytesMax: 1000, warn: console.error });
      await tier.save(7, async (path) => { await writeFile(path, "orphan!"); return 7; });
      console.log("saved"); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    expect(await kept()).toBe(2);
    await make(1_000);
    expect(await kept()).toBe(2);
    child.kill("SIGKILL");
    await once(child, "exit");
    await make(1_000);
    expect([await kept(), existsSync(file?.path ?? "")]).toEqual([1, true]);
  });

  it("leaves alone what it did not make", async () => {
    await make(1_000);
    await mkdir(join(base(), "somebody's"));
    await make(1_000);
    expect(existsSync(join(base(), "somebody's"))).toBe(true);
  });
});

describe("a folder's owner", () => {
  it("lives while its process does", async () => {
    const name = `${await ownerName()}-abc`;
    const [space, pid] = name.split("-");
    expect(await isOwnerAlive(name, 0)).toBe(true);
    expect(await isOwnerAlive(`${space}-${pid}-1-abc`, Date.now())).toBe(process.platform !== "linux");
    expect(await isOwnerAlive(`${space}-4194305-1-abc`, Date.now())).toBe(false);
  });

  it("in a container that we cannot see lives while it touches its folder", async () => {
    expect(await isOwnerAlive("12345-1-1-abc", Date.now())).toBe(true);
    expect(await isOwnerAlive("12345-1-1-abc", Date.now() - 4_000_000)).toBe(false);
  });
});
