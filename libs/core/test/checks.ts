/** Every golden text and every law as a named check, which throws when it finds something wrong. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { laws } from "./laws.ts";
import { scenarios } from "./scenarios/index.ts";

/** Always the same runs: a planted bug is found each time, or never. */
const SEED = 1;
/** Random worlds meet a bug in one of some hundred. */
const RUNS: Readonly<Record<string, number>> = { "any world": 1_500 };
const RUNS_OTHERS = 400;

export const checks: Readonly<Record<string, () => void>> = Object.fromEntries([
  ...scenarios.map(({ name, text }) => [
    `golden ${name}`,
    () => assert.equal(text(), readFileSync(new URL(`golden/${name}.txt`, import.meta.url), "utf8")),
  ]),
  ...Object.entries(laws).map(([name, law]) => [
    `law ${name}`,
    () => law({ runs: RUNS[name] ?? RUNS_OTHERS, seed: SEED }),
  ]),
]);

/** @returns what each check says, undefined when it finds nothing. */
export function runChecks(names: readonly string[]): Record<string, string | undefined> {
  return Object.fromEntries(names.map((name) => [name, said(name)]));
}

function said(name: string): string | undefined {
  const check = checks[name];
  if (!check) throw new Error(`no check is called ${name}`);
  try {
    check();
    return undefined;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    // What a law found is the cause of its error.
    return error.cause instanceof Error ? error.cause.message : error.message;
  }
}
