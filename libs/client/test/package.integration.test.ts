/**
 * The packed client as a stranger gets it: installed from its tarball into an empty folder, run by the machine's own
 * Node (20 or newer) instead of the repository's, compiled without the repository's settings.
 */
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startApiServer } from "./support/api-server.ts";
import { startTestNats } from "./support/nats.ts";
import { startQueuePeer } from "./support/queue-peer.ts";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "..");
const repository = resolve(root, "../..");
const nodeMajorMin = 20;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "autellix-packed-"));
  const { stdout } = await run(process.execPath, [join(root, "scripts/pack.ts"), folder]);
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }');
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", stdout.trim()], { cwd: folder });
  await cp(join(root, "test/fixtures"), folder, { recursive: true });
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Environment and path of the Node that is not the repository's. */
async function outsideNode(): Promise<string> {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((path) => !path.includes("node_modules"));
  const { stdout } = await run("node", ["-p", "process.execPath"], {
    env: { ...process.env, PATH: folders.join(delimiter) },
  });
  return stdout.trim();
}

test("programs and calls over NATS run on the machine's Node", async () => {
  const node = await outsideNode();
  const api = await startApiServer();
  const nats = await startTestNats();
  const peer = await startQueuePeer(nats.url, "main");
  try {
    const answered = (async () => {
      const call = await peer.next();
      call.chunk("good ");
      call.chunk("day");
      await call.end("completed", "good day");
    })();
    const { stdout } = await run(node, [join(folder, "user.mjs"), api.url, nats.url, "main"], { cwd: folder });
    await answered;
    const seen = JSON.parse(stdout) as { node: string; overHttp: string[]; overNats: string; status: string };
    expect(Number(/^v(\d+)/.exec(seen.node)?.[1])).toBeGreaterThanOrEqual(nodeMajorMin);
    expect(seen.overHttp.slice(1)).toEqual(["answer to left", "answer to right", "answer to merge"]);
    expect(seen).toMatchObject({ overNats: "good day", status: "completed" });
    expect(api.ended).toEqual([{ program: seen.overHttp[0], cancel: false }]);
    expect(api.calls.at(-1)?.parents).toHaveLength(2);
  } finally {
    await peer.close();
    await nats.stop();
    await api.close();
  }
});

test("its types stand alone", async () => {
  await symlink(join(repository, "node_modules/@types"), join(folder, "node_modules/@types"));
  const options = { module: "NodeNext", target: "ES2022", strict: true, noEmit: true, types: ["node"] };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["user.ts"] }));
  const tsc = join(repository, "node_modules/typescript/bin/tsc");
  const { stdout } = await run(process.execPath, [tsc, "-p", folder], { cwd: folder });
  expect(stdout).toBe("");
});

test("it needs no other package", async () => {
  const manifest = JSON.parse(
    await readFile(join(folder, "node_modules/@autellix/client/package.json"), "utf8"),
  ) as Record<string, unknown>;
  expect(manifest).not.toHaveProperty("dependencies");
  expect(manifest).toMatchObject({ name: "@autellix/client", engines: { node: ">=20" } });
});
