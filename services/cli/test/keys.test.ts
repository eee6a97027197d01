import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { keysCommand } from "../src/keys.ts";
import { ReadableError, UsageError } from "../src/usage.ts";

describe("npm run keys", () => {
  let folder: string;
  let file: string;
  let said: string;
  const run = (...args: string[]) => {
    said = "";
    return keysCommand(args, folder, "/", (text) => {
      said += text;
    });
  };

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "autellix-test-"));
    file = join(folder, "keys.json");
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
  });

  it("prints a new key once and keeps only its SHA-256", async () => {
    expect(await run("create", "team-a")).toBe(0);
    const key = said.split("\n", 1)[0] ?? "";
    expect(key).toMatch(/^ax-[A-Za-z0-9_-]{43}$/);
    const text = await readFile(file, "utf8");
    expect(text).not.toContain(key);
    const sha256 = createHash("sha256").update(key).digest("hex");
    expect(JSON.parse(text)).toEqual({
      keys: [{ tenant: "team-a", sha256, created: expect.stringMatching(/^\d{4}-.+Z$/) }],
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual(["keys.json"]);
  });

  it("lists and revokes by tenant", async () => {
    for (const tenant of ["a", "b", "a"]) await run("create", tenant);
    await run("list");
    expect(said.split("\n").map((line) => line.split("\t")[0])).toEqual(["a", "b", "a", ""]);
    await run("revoke", "a");
    expect(said).toContain("2 keys of tenant a are revoked");
    await run("list");
    expect(said).toMatch(/^b\t.+\n$/);
    await expect(run("revoke", "a")).rejects.toThrow(ReadableError);
  });

  it("uses another file when told to", async () => {
    await run("create", "a", "--file", join(folder, "other.json"));
    expect(await readdir(folder)).toEqual(["other.json"]);
  });

  it.each([["create"], ["create", "a b"], ["create", "a", "b"], ["destroy", "a"], ["list", "--bogus"]])(
    "refuses %s %s in one line",
    async (...args) => {
      await expect(run(...args)).rejects.toThrow(UsageError);
    },
  );

  it("never overwrites a file that it cannot read", async () => {
    await writeFile(file, "precious");
    await expect(run("create", "a")).rejects.toThrow(ReadableError);
    expect(await readFile(file, "utf8")).toBe("precious");
  });
});
