/**
 * Deep research: few, very long programs with wide fan-outs. Each round plans, sends many searches out side by side
 * (map), and joins their findings (reduce), from which the next round is planned; at the end stands a report.
 */
import type { CallSpec } from "../program.ts";
import { type Maker, sizes, streamsOf, tokens, toolMs } from "./content.ts";

export const deepResearch: Maker = (random, frozen) => {
  const streams = streamsOf(random);
  const { shape, decodes } = streams;
  const size = frozen.deepResearch;
  const calls: CallSpec[] = [];
  const add = (call: CallSpec) => calls.push(call) - 1;
  const about = (mean: number) => tokens(decodes.logNormal(mean, size.search.variation), frozen);

  const question = { parents: [], gapMs: 0, thread: "main", extends: undefined };
  const { newPromptTokens } = sizes(streams, size.search, frozen);
  let main = add({ ...question, newPromptTokens, decodeTokens: about(size.planTokens) });
  const rounds = shape.int(size.roundsMin, size.roundsMax);
  for (let round = 1; round <= rounds; round++) {
    const drawn = Math.round(shape.logNormal(size.width, size.widthVariation));
    const width = Math.min(size.widthMax, Math.max(2, drawn));
    const found: number[] = [];
    for (let branch = 1; branch <= width; branch++) {
      const length = shape.int(size.searchCallsMin, size.searchCallsMax);
      let last: number | undefined;
      for (let index = 0; index < length; index++) {
        const sized = sizes(streams, size.search, frozen);
        last = add({
          parents: [last ?? main],
          gapMs: toolMs(streams, frozen),
          thread: `round-${round}-search-${branch}`,
          extends: last,
          newPromptTokens: sized.newPromptTokens,
          decodeTokens: index === length - 1 ? about(size.findingTokens) : sized.decodeTokens,
        });
      }
      if (last !== undefined) found.push(last);
    }
    // What is joined is what the searches answered.
    const findings = found.reduce((sum, call) => sum + (calls[call]?.decodeTokens ?? 0), 0);
    main = add({
      parents: found,
      gapMs: 0,
      thread: "main",
      extends: main,
      newPromptTokens: findings,
      decodeTokens: about(round === rounds ? size.reportTokens : size.planTokens),
    });
  }
  return {
    workload: "deep-research",
    sharedPrompt: "research",
    sharedPromptTokens: size.sharedPromptTokens,
    calls,
  };
};
