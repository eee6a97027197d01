/** Which configuration and which code a result is of. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { frozen, sensitivities } from "@autellix/simulation";
import { canonical } from "./spec.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
/** What decides a run's numbers. */
const SOURCES = ["libs/core/src", "libs/simulation/src", "libs/engines/src/simulated"] as const;

/** Hash of the configuration that all runs share. */
export function frozenHash(): string {
  return createHash("sha256").update(canonical({ frozen, sensitivities })).digest("hex").slice(0, 12);
}

/** Hash of the scheduler's and the simulator's sources: the commit does not say what is changed on top of it. */
export function codeHash(): string {
  const hash = createHash("sha256");
  for (const folder of SOURCES)
    for (const file of filesBelow(join(ROOT, folder)))
      hash.update(`${relative(ROOT, file)}\n`).update(readFileSync(file));
  return hash.digest("hex").slice(0, 12);
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
