/**
 * Planted bugs: each is patched into a copy of the core, and the checks must find it there. The copy lies outside of
 * the repository and runs in a process of its own, with a limit of time: a bug may be a loop without end.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Mutant, mutants } from "./mutants.ts";

const CORE = fileURLToPath(new URL("..", import.meta.url));
const NODE_MODULES = fileURLToPath(new URL("../../../node_modules", import.meta.url));
const RUN_MS_MAX = 120_000;
let copy: string;

beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), "autellix-mutants-"));
  for (const folder of ["src", "test"]) cpSync(join(CORE, folder), join(copy, folder), { recursive: true });
  writeFileSync(join(copy, "package.json"), JSON.stringify({ type: "module" }));
  symlinkSync(NODE_MODULES, join(copy, "node_modules"));
});

afterAll(() => rmSync(copy, { recursive: true, force: true }));

/** What each check says of the core as it lies in the copy. */
function runChecks(names: readonly string[]): Record<string, string> {
  const script = join(copy, "test", "run-checks.ts");
  const said = execFileSync(process.execPath, [script, ...names], { encoding: "utf8", timeout: RUN_MS_MAX });
  return JSON.parse(said) as Record<string, string>;
}

function plant({ file, find, replace }: Mutant): void {
  const text = readFileSync(join(CORE, "src", file), "utf8");
  expect(text.split(find), `"${find}" is in ${file} once`).toHaveLength(2);
  writeFileSync(
    join(copy, "src", file),
    text.replace(find, () => replace),
  );
}

function heal({ file }: Mutant): void {
  cpSync(join(CORE, "src", file), join(copy, "src", file));
}

describe("planted bugs", () => {
  it(
    "are found by checks that find nothing in the core as it is",
    () => {
      const names = new Set(mutants.flatMap(({ caughtBy }) => Object.keys(caughtBy)));
      expect(runChecks([...names])).toEqual({});
    },
    RUN_MS_MAX,
  );

  it.each(mutants.map((mutant) => [mutant.bug, mutant] as const))(
    "%s",
    (_bug, mutant) => {
      plant(mutant);
      try {
        const said = runChecks(Object.keys(mutant.caughtBy));
        for (const [check, text] of Object.entries(mutant.caughtBy)) expect(said[check], check).toMatch(text);
      } finally {
        heal(mutant);
      }
    },
    RUN_MS_MAX,
  );
});
