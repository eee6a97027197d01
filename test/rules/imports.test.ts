import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { importsOf, packageOf, ROOT, resolveImport, type Source, sources } from "./source.ts";

const all = sources();
const shipped = all.filter(({ ships }) => ships);
const OWN = "@autellix/";
const SERVICES = new Set(
  all.filter(({ path }) => path.startsWith("services/")).map(({ packagePath }) => OWN + packagePath.split("/")[1]),
);

/** Own packages that a library may import (design §8); a library that is not listed may import any library. */
const LIBRARY_IMPORTS: Readonly<Record<string, readonly string[]>> = {
  "libs/core": [],
  "libs/protocol": [],
  "libs/runtime": ["@autellix/protocol"],
  "libs/engines": ["@autellix/protocol"],
  "libs/client": ["@autellix/protocol"],
};

/** @returns `file: import` for each import of the files that breaks the rule. */
function offences(files: readonly Source[], breaks: (name: string, file: Source) => boolean): string[] {
  return files.flatMap((file) =>
    importsOf(file)
      .filter((name) => breaks(name, file))
      .map((name) => `${file.path}: ${name}`),
  );
}

const isRelative = (name: string) => name.startsWith(".");
const within = (file: Source, name: string, folder: string) => resolveImport(file, name).startsWith(`${folder}/`);

describe("imports (design §8)", () => {
  it("are found at all", () => {
    expect(shipped.length).toBeGreaterThan(20);
    expect(shipped.flatMap(importsOf)).toContain("@autellix/protocol");
    expect(shipped.flatMap(importsOf)).toContain("./errors.ts");
  });

  it("of libs/core reach nothing outside it", () => {
    const core = shipped.filter(({ packagePath }) => packagePath === "libs/core");
    expect(core.length).toBeGreaterThan(0);
    expect(offences(core, (name, file) => !isRelative(name) || !within(file, name, "libs/core/src"))).toEqual([]);
    const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, "libs/core/package.json"), "utf8"));
    expect([dependencies, devDependencies]).toEqual([undefined, undefined]);
  });

  it("go only downwards: libraries import only the libraries below them", () => {
    const broken = offences(shipped, (name, { packagePath }) => {
      const allowed = LIBRARY_IMPORTS[packagePath];
      return name.startsWith(OWN) && allowed !== undefined && !allowed.includes(packageOf(name));
    });
    expect(broken).toEqual([]);
  });

  it("never name a service", () => {
    expect(offences(all, (name) => SERVICES.has(packageOf(name)))).toEqual([]);
  });

  it("by path stay inside the package; tests may share helpers", () => {
    expect(
      offences(shipped, (name, file) => isRelative(name) && !within(file, name, `${file.packagePath}/src`)),
    ).toEqual([]);
    const tests = all.filter(({ ships }) => !ships);
    expect(
      offences(
        tests,
        (name, file) =>
          isRelative(name) && !within(file, name, file.packagePath) && !/(^|\/)test\//.test(resolveImport(file, name)),
      ),
    ).toEqual([]);
  });

  it("of NATS are in libs/protocol alone; examples and tests may be foreign clients", () => {
    const files = shipped.filter(({ packagePath }) => packagePath !== "libs/protocol");
    expect(offences(files, (name) => /^(@nats-io\/|nats$)/.test(name))).toEqual([]);
  });

  it("of packages are declared where they are used", () => {
    const declared = new Map<string, Set<string>>();
    const dependenciesOf = (packagePath: string) => {
      const known = declared.get(packagePath);
      if (known) return known;
      const { dependencies = {}, peerDependencies = {} } = JSON.parse(
        readFileSync(join(ROOT, packagePath, "package.json"), "utf8"),
      );
      const names = new Set([...Object.keys(dependencies), ...Object.keys(peerDependencies)]);
      declared.set(packagePath, names);
      return names;
    };
    const isPackage = (name: string) => !isRelative(name) && !name.startsWith("node:");
    expect(
      offences(
        shipped,
        (name, { packagePath }) => isPackage(name) && !dependenciesOf(packagePath).has(packageOf(name)),
      ),
    ).toEqual([]);
  });
});

describe("the environment", () => {
  it("is read by main.ts files and by what npm scripts start, and by nothing else", () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    const started = new Set(Object.values(scripts).flatMap((command) => command.split(" ").slice(3)));
    const readers = shipped.filter(({ code }) => /\bprocess\s*\.\s*env\b/.test(code)).map(({ path }) => path);
    expect(readers.filter((path) => !path.endsWith("/src/main.ts") && !started.has(path))).toEqual([]);
  });
});

describe("a source file", () => {
  /** About 300 lines is long (anchors); beyond this a file holds two things. */
  const LINES_MAX = 400;

  it(`has at most ${LINES_MAX} lines`, () => {
    const long = shipped
      .map(({ path, text }) => [path, text.split("\n").length] as const)
      .filter(([, lines]) => lines > LINES_MAX);
    expect(long).toEqual([]);
  });
});
