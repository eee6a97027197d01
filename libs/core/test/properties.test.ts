import { it } from "vitest";
import { laws } from "./laws.ts";

/** Random runs per law; a failure prints its seed and the smallest case found. */
const RUNS: Readonly<Record<string, number>> = { "any world": 1_500 };
const RUNS_OTHERS = 300;
const TIMEOUT_MS = 120_000;

it.each(Object.entries(laws))(
  "law: %s",
  (name, law) => {
    law({ runs: RUNS[name] ?? RUNS_OTHERS });
  },
  TIMEOUT_MS,
);
