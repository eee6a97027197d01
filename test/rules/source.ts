/** The repository's own source files, for the tests of its rules. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SKIPPED = new Set(["node_modules", "dist", "fixtures", "results"]);

export interface Source {
  /** From the root, with `/`. */
  path: string;
  /** `libs/core`, `services/cli`, `load-tests`, …: the folder of the nearest package.json. */
  packagePath: string;
  /** Whether it ships: tests may do more. */
  ships: boolean;
  text: string;
  /** Without comments. */
  code: string;
}

export function sources(): Source[] {
  const folders = ["libs", "services"].flatMap((group) =>
    readdirSync(join(ROOT, group)).map((name) => `${group}/${name}`),
  );
  return [...folders, "load-tests", "examples", "test", "scripts"]
    .filter((folder) => existsSync(join(ROOT, folder)))
    .flatMap((folder) => filesOf(folder).map((path) => sourceOf(path, folder)));
}

function filesOf(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : filesOf(path);
    return /\.(tsx?|mjs)$/.test(entry.name) ? [path] : [];
  });
}

function sourceOf(path: string, packagePath: string): Source {
  const text = readFileSync(join(ROOT, ...path.split("/")), "utf8");
  return { path, packagePath, ships: path.startsWith(`${packagePath}/src/`), text, code: withoutComments(text) };
}

/** Keeps strings and templates as they are; a regular expression that holds quotes may confuse it, none here does. */
function withoutComments(text: string): string {
  return text.replace(
    /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|(?<=^|[\s;,{}()])\/\/[^\n]*/g,
    (_, quoted: string | undefined) => quoted ?? "",
  );
}

/** @returns what a file imports, exports from or imports dynamically by a constant name. */
export function importsOf({ code }: Source): string[] {
  const pattern =
    /(?:^|[\s;}])(?:import|export)\s[^;"'`]*?from\s*["']([^"']+)["']|(?:^|[\s;])import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/g;
  return [...code.matchAll(pattern)].map(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? "");
}

/** @returns the path from the root that a relative import means. */
export function resolveImport(from: Source, name: string): string {
  return join(from.path, "..", name).split(sep).join("/");
}

/** `@scope/name/sub` → `@scope/name`. */
export function packageOf(name: string): string {
  return name
    .split("/")
    .slice(0, name.startsWith("@") ? 2 : 1)
    .join("/");
}
