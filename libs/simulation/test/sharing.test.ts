import { describe, expect, it } from "vitest";
import type { ProgramSpec } from "../src/program.ts";
import { besideFig7, inputSharing } from "../src/sharing.ts";
import { workloads } from "../src/workloads/index.ts";

/**
 * How far the frozen workloads are from Fig. 7's points, at most. Two do not come nearer: MCTS at 3,000 and 4,000
 * tokens shares 0.60 and 0.44 across programs in the figure, which is 1,800 tokens, but 0.98 at 1,600, which is 1,570:
 * no prompt of one length gives both.
 */
const ACROSS_OFF_MAX = 0.07;
const WITHIN_OFF_MAX = 0.03;

const chain: ProgramSpec = {
  id: "a-0",
  workload: "a",
  arrivesAtMs: 0,
  sharedPrompt: "a",
  sharedPromptTokens: 100,
  calls: [
    { parents: [], gapMs: 0, extends: undefined, newPromptTokens: 100, decodeTokens: 50 },
    { parents: [0], gapMs: 0, extends: 0, newPromptTokens: 150, decodeTokens: 50 },
    { parents: [0], gapMs: 0, extends: 0, newPromptTokens: 150, samePromptAs: 1, decodeTokens: 50 },
  ],
};

describe("sharing of prompts", () => {
  it("counts the shared prompt across programs, and contexts and equal prompts within", () => {
    // Inputs 200, 400, 400; found 100, 250, 400 within and 100 each across.
    expect(inputSharing([chain])).toEqual({ calls: 3, inputTokens: 1_000, within: 0.75, across: 0.3 });
    expect(inputSharing([chain], { from: 0, to: 400 })).toEqual({
      calls: 1,
      inputTokens: 200,
      within: 0.5,
      across: 0.5,
    });
    expect(inputSharing([chain], { from: 500, to: 600 }).within).toBeNaN();
  });

  it.each([
    ["sharegpt", 6_000],
    ["lats", 600],
  ] as const)("of %s is that of Fig. 7", (name, programs) => {
    const rows = besideFig7(name, workloads[name]({ programs, ratePerS: 1, seed: 1 }));
    expect(rows.length).toBeGreaterThan(2);
    for (const { paper, ours } of rows) {
      expect(ours.calls, `${paper.inputTokens} tokens`).toBeGreaterThan(500);
      expect(Math.abs(ours.within - paper.within), `within, ${paper.inputTokens} tokens`).toBeLessThan(WITHIN_OFF_MAX);
      expect(Math.abs(ours.across - paper.across), `across, ${paper.inputTokens} tokens`).toBeLessThan(ACROSS_OFF_MAX);
    }
  });

  it("goes to 1 within and 0 across for long chats, as in Fig. 7", () => {
    const programs = workloads.sharegpt({ programs: 6_000, ratePerS: 1, seed: 1 });
    const long = inputSharing(programs, { from: 50_000, to: 150_000 });
    expect(long.within).toBeGreaterThan(0.99);
    expect(long.across).toBeLessThan(0.03);
  });

  it("of AgentX-like sessions is above 96 %, as quoted", () => {
    const programs = workloads.agentx({ programs: 500, ratePerS: 1, seed: 1 });
    expect(inputSharing(programs).within).toBeGreaterThan(0.96);
  });
});
