import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { ROOT, sources } from "./source.ts";

/** What the compiler must refuse in libs/core: time, IO and everything else that is not in its inputs. */
const IMPURE: Readonly<Record<string, string>> = {
  timeout: "setTimeout(() => {}, 1);",
  interval: "setInterval(() => {}, 1);",
  microtask: "queueMicrotask(() => {});",
  process: "process.exit(1);",
  environment: "export const value = process.env.HOME;",
  clock: "export const value = performance.now();",
  console: 'console.log("text");',
  fetch: 'export const value = fetch("http://127.0.0.1");',
  files: 'import { readFileSync } from "node:fs";\nexport const value = readFileSync("file");',
  random: 'import { randomBytes } from "node:crypto";\nexport const value = randomBytes(1);',
  buffer: "export const value = Buffer.alloc(1);",
  web: "export const value = crypto.randomUUID();",
};

describe("libs/core", () => {
  it("does not compile when it touches a timer, the clock, the process or a module of Node", {
    timeout: 60_000,
  }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "autellix-test-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    await writeFile(
      join(folder, "tsconfig.json"),
      JSON.stringify({ extends: join(ROOT, "libs/core/tsconfig.json"), include: [folder] }),
    );
    await writeFile(join(folder, "package.json"), '{"type": "module"}');
    await writeFile(join(folder, "pure.ts"), "export const value: number = Math.max(1, 2);\n");
    for (const [name, code] of Object.entries(IMPURE))
      await writeFile(join(folder, `${name}.ts`), `${code}\nexport {};\n`);
    const tsc = promisify(execFile)(join(ROOT, "node_modules/.bin/tsc"), ["-p", folder], {
      env: { PATH: `${join(ROOT, "node_modules/.bin")}:${process.env.PATH}` },
    });
    const { stdout } = await tsc.catch((error: { stdout: string }) => error);
    const refused = new Set(
      stdout.split("\n").flatMap((line) => /([\w-]+)\.ts\(\d+,\d+\): error/.exec(line)?.[1] ?? []),
    );
    expect([...refused].sort()).toEqual(Object.keys(IMPURE).sort());
  });

  it("uses neither dates, nor random numbers, nor functions that differ in the last bit between machines", () => {
    const banned =
      /\bDate\b|\bMath\s*\.\s*(?:random|exp|expm1|pow|log\w*|sin|cos|tan|sqrt)\b|\*\*|\bIntl\b|\bglobalThis\b|\btoLocale\w+/;
    const core = sources().filter(({ path }) => path.startsWith("libs/core/src/"));
    expect(core.length).toBeGreaterThan(0);
    const found = core.flatMap(({ path, code }) => {
      const match = banned.exec(code);
      return match ? [`${path}: ${match[0]}`] : [];
    });
    expect(found).toEqual([]);
  });
});
