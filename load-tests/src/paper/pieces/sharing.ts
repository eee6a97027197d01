/** Fig. 7: how much of a call's input an ideal prefix cache would hold. A property of the workloads, not of a system. */
import { besideFig7, type fig7, workloads } from "@autellix/simulation";
import { type Piece, percent } from "../section.ts";

const PROGRAMS = 2_000;
const SEED = 1;
const NAMES = ["sharegpt", "lats"] as const satisfies readonly (keyof typeof fig7)[];

export const sharing: Piece = {
  id: "fig7",
  about: "fig. 7: input tokens that an ideal prefix cache holds, within a program and across programs",
  inDefault: false,
  run: async (_bench, scope) => {
    const rows = NAMES.filter((name) => scope.workloads.includes(name)).flatMap((name) => {
      const programs = workloads[name]({ programs: PROGRAMS, ratePerS: 1, seed: SEED });
      return besideFig7(name, programs).map(({ paper, ours }) => [
        name,
        paper.inputTokens,
        percent(ours.within),
        percent(paper.within),
        percent(ours.across),
        percent(paper.across),
        ours.calls,
      ]);
    });
    if (rows.length === 0) return [];
    const head = ["workload", "input tokens", "within", "paper", "across", "paper", "calls"];
    return [
      {
        id: "fig7",
        title: "Input tokens that an ideal prefix cache holds (fig. 7)",
        protocols: [`no system: ${PROGRAMS} programs of each workload, seed ${SEED}, an endless cache fed in order`],
        notes: [],
        tables: [{ title: "", head, rows }],
        plots: {},
        points: [],
      },
    ];
  },
};
