/**
 * Packs the client as one JS file with its types: `dist/` here, and `autellix-client-<version>.tgz` in the folder
 * named by the first argument (default `dist/`). The packed package has no dependency.
 */
import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { rolldown } from "rolldown";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "..");
const repository = resolve(root, "../..");
const dist = join(root, "dist");
const packageFolder = join(dist, "package");
/** The oldest Node that the packed client runs on. */
const TARGET = "node20";

async function bundle(): Promise<void> {
  const build = await rolldown({
    input: join(root, "src/index.ts"),
    platform: "node",
    // msgpackr's native part is optional: it tries to load it and goes on without.
    external: [/^node:/, "msgpackr-extract"],
    transform: { target: TARGET },
  });
  await build.write({ file: join(packageFolder, "index.js"), format: "esm", comments: { legal: true } });
  await build.close();
}

/** Declarations of what `index.ts` exports. @throws when one of them imports something that is not packed. */
async function declare(): Promise<void> {
  const types = join(dist, "types");
  const tsc = join(repository, "node_modules/typescript/bin/tsc");
  await run(process.execPath, [tsc, "-p", join(root, "tsconfig.pack.json")], { cwd: root });
  const waiting = ["index.d.ts"];
  const done = new Set<string>();
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (done.has(file)) continue;
    done.add(file);
    const text = await readFile(join(types, file), "utf8");
    for (const [, source = ""] of text.matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)) {
      if (!source.startsWith("./")) throw new Error(`${file} imports ${source}, which is not part of the package`);
      waiting.push(`${source.slice(2, -".ts".length)}.d.ts`);
    }
    await writeFile(join(packageFolder, file), text.replace(/((?:from|import)\s*\(?"\.\/[^"]+)\.ts"/g, '$1.js"'));
  }
}

async function describe(): Promise<string> {
  const own = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as Record<string, string>;
  const manifest = {
    name: own.name,
    version: own.version,
    description: own.description,
    license: own.license,
    type: "module",
    exports: { ".": { types: "./index.d.ts", default: "./index.js" } },
    engines: { node: ">=20" },
  };
  await writeFile(join(packageFolder, "package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
  await cp(join(root, "README.md"), join(packageFolder, "README.md"));
  return String(own.version);
}

await rm(dist, { recursive: true, force: true });
await mkdir(packageFolder, { recursive: true });
await bundle();
await declare();
const version = await describe();
const target = resolve(process.argv[2] ?? dist);
await mkdir(target, { recursive: true });
await run("npm", ["pack", "--pack-destination", target], { cwd: packageFolder });
const archive = (await readdir(target)).find((name) => name.endsWith(`-${version}.tgz`));
if (archive === undefined) throw new Error(`npm pack left no archive in ${target}`);
console.log(join(target, archive));
