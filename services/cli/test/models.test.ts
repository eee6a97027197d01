import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { Console } from "../src/start/console.ts";
import { type ModelContext, nameOfFile, nameOfHubModel, resolveModels } from "../src/start/models.ts";
import { UsageError } from "../src/usage.ts";

async function context(): Promise<ModelContext & { lines: string[] }> {
  const dataDir = await mkdtemp(join(tmpdir(), "autellix-test-"));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  const lines: string[] = [];
  const console = new Console({ write: (text) => lines.push(text), isTty: false, columns: 80 });
  // Nothing can be had: no pip on PATH, a hub and an index that refuse.
  const env = {
    PATH: dataDir,
    AUTELLIX_CACHE_DIR: join(dataDir, "cache"),
    AUTELLIX_MODEL_HUB_URL: "http://127.0.0.1:1",
    PIP_INDEX_URL: "http://127.0.0.1:1",
  };
  return { env, dataDir, console, signal: new AbortController().signal, lines };
}

describe("model names", () => {
  it.each([
    ["/m/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"],
    ["Qwen2.5-0.5B-Instruct-Q4_K_M.gguf", "Qwen2.5-0.5B-Instruct"],
    ["llama-3.2-1b-f16.gguf", "llama-3.2-1b"],
    ["gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b"],
    ["model", "model"],
  ])("of the file %s is %s", (path, name) => expect(nameOfFile(path)).toBe(name));

  it.each([
    ["hf:user/SmolLM2-360M-Instruct-GGUF:Q8_0", "SmolLM2-360M-Instruct"],
    ["hf:user/repo", "repo"],
    ["hf:user/repo/folder/Other-7B.Q5_K_S.gguf#main", "Other-7B"],
  ])("of %s is %s", (uri, name) => expect(nameOfHubModel(uri)).toBe(name));
});

const simulated = { engine: "simulated" as const, aliases: [] };
const llama = { engine: "llama" as const, aliases: [] };

describe("resolveModels", () => {
  it("names a pool after the model of a server, and offers its aliases, too", async () => {
    const http = { engine: "http" as const, aliases: ["gpt-4o", "org/Model-7B"] };
    expect(await resolveModels([{ kind: "served", name: "org/Model-7B" }], http, await context())).toEqual([
      { pool: "org-Model-7B", modelNames: ["org/Model-7B", "gpt-4o"], modelFile: undefined },
    ]);
    expect(await resolveModels([{ kind: "default" }], { ...http, aliases: [] }, await context())).toEqual([
      { pool: "served", modelNames: [], modelFile: undefined },
    ]);
  });

  it("makes pools whose names are valid in subjects", async () => {
    const pools = await resolveModels(
      [
        { kind: "hub", uri: "hf:user/Qwen2.5-0.5B-GGUF" },
        { kind: "file", path: "/ä,b.gguf" },
      ],
      { engine: "simulated", aliases: [] },
      await context(),
    );
    expect(pools).toEqual([
      { pool: "Qwen2-5-0-5B", modelNames: ["Qwen2.5-0.5B", "hf:user/Qwen2.5-0.5B-GGUF"], modelFile: undefined },
      { pool: "-b", modelNames: ["ä-b"], modelFile: undefined },
    ]);
  });

  it("refuses two models that would share a pool", async () => {
    const twice = resolveModels([{ kind: "tiny" }, { kind: "tiny" }], simulated, await context());
    await expect(twice).rejects.toThrow(UsageError);
  });

  it("writes the tiny model, the same each time", async () => {
    const here = await context();
    const [first] = await resolveModels([{ kind: "tiny" }], llama, here);
    const bytes = await readFile(first?.modelFile ?? "");
    expect(bytes.toString("latin1", 0, 4)).toBe("GGUF");
    await resolveModels([{ kind: "tiny" }], llama, here);
    expect((await readFile(first?.modelFile ?? "")).equals(bytes)).toBe(true);
  });

  it("falls back to the tiny model when the default one cannot be had, and says why its text is noise", async () => {
    const here = await context();
    const pools = await resolveModels([{ kind: "default" }], llama, here);
    expect(pools).toMatchObject([{ pool: "tiny", modelNames: ["tiny"] }]);
    const said = here.lines.join("");
    expect(said).toContain("model SmolLM2-135M-Instruct could not be obtained. Tried:");
    expect(said).toContain("its weights are random, so its text is noise");
  });
});
