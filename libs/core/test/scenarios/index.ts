import { algorithm1 } from "./algorithm1.ts";
import { algorithm2 } from "./algorithm2.ts";
import { gaps } from "./gaps.ts";
import { memory } from "./memory.ts";
import { paperScenarios } from "./paper.ts";
import type { Scenario } from "./scenario.ts";

export const scenarios: readonly Scenario[] = [...paperScenarios, ...algorithm1, ...algorithm2, ...gaps, ...memory];
