/**
 * LATS: Monte Carlo tree search on questions (paper §6.1). The paper gives the calls per program and the tokens per
 * call, not the tree. The plotted numbers of calls (16, 22, 28, 34, …) lie 6 apart, so a round is
 *
 *     a node is chosen ─┬─ child 1 ─┐
 *                       ├─   …     ─┼─ (tools run) ─ value call ─ next round
 *                       └─ child 5 ─┘
 *
 * The children sample one prompt, the node's context and what its tool found, so all but the first find the whole
 * prompt in the cache: that is how 467 new tokens per call go together with the 98 % of Fig. 7. The value call goes
 * on from the child that is looked at with a short instruction: it takes the lower part of the histogram of prompts
 * (1 in 6 calls, as the histogram has them), the children the upper part, so the histogram as a whole is kept.
 */
import paper from "../data/paper-workloads.json" with { type: "json" };
import type { Frozen } from "../frozen.ts";
import type { CallSpec } from "../program.ts";
import { Histogram, Pmf } from "../random.ts";
import { type Maker, type Streams, streamsOf, tokens, toolMs } from "./content.ts";

const callsPerProgram = new Pmf(paper.callsPerProgram.LATS.pmf);
const promptTokens = histogramOf(paper.latsTokensPerCall.prefill.hist);
const decodeTokens = histogramOf(paper.latsTokensPerCall.decode.hist);

/** Below this share of the histogram are questions and instructions (its first mode, below 50 tokens). */
const SHORT_SHARE = 0.128;

function histogramOf(rows: readonly (readonly number[])[]): Histogram {
  return new Histogram(rows.map(([from = 0, to = 0, density = 0]) => [Math.max(0, from), to, density]));
}

/** A node of the tree: the call that made it. Depth 1 = a child of the root. */
interface Node {
  call: number;
  depth: number;
}

export const lats: Maker = (random, frozen) => {
  const search = new Search(streamsOf(random), frozen);
  return {
    workload: "lats",
    sharedPrompt: "search",
    sharedPromptTokens: frozen.lats.sharedPromptTokens,
    calls: search.run(),
  };
};

class Search {
  readonly #streams: Streams;
  readonly #frozen: Frozen;
  readonly #calls: CallSpec[] = [];
  /** Nodes that were made and not expanded, those at the depth limit left out. */
  readonly #open: Node[] = [];

  constructor(streams: Streams, frozen: Frozen) {
    this.#streams = streams;
    this.#frozen = frozen;
  }

  run(): CallSpec[] {
    const { width } = this.#frozen.lats;
    const calls = callsPerProgram.draw(this.#streams.shape);
    let chosen: Node | undefined;
    let judged: number | undefined;
    while (this.#calls.length + width + 1 <= calls) {
      const children = this.#expand(chosen, judged, width);
      const best = this.#streams.shape.pick(children);
      judged = this.#judge(children, best);
      chosen = this.#next(children, best);
    }
    // The answer is found before all siblings are sampled: the rest is a narrower last round, which nobody judges.
    if (this.#calls.length < calls) this.#expand(chosen, judged, calls - this.#calls.length);
    return this.#calls;
  }

  #expand(node: Node | undefined, judged: number | undefined, width: number): Node[] {
    const first = this.#calls.length;
    const prompt = this.#promptTokens(node === undefined ? "question" : "observation");
    return Array.from({ length: width }, (_, index) => {
      this.#calls.push({
        parents: judged === undefined ? [] : [judged],
        gapMs: 0,
        thread: `branch-${index + 1}`,
        extends: node?.call,
        newPromptTokens: prompt,
        ...(index === 0 ? {} : { samePromptAs: first }),
        decodeTokens: this.#decodeTokens(),
      });
      return { call: first + index, depth: (node?.depth ?? 0) + 1 };
    });
  }

  /** One draw of tool time: the tools of a round run side by side. @returns the value call. */
  #judge(children: readonly Node[], best: Node): number {
    this.#calls.push({
      parents: children.map(({ call }) => call),
      gapMs: toolMs(this.#streams, this.#frozen),
      thread: "main",
      extends: best.call,
      newPromptTokens: this.#promptTokens("instruction"),
      decodeTokens: this.#decodeTokens(),
    });
    return this.#calls.length - 1;
  }

  /** Down to the depth limit from the best child; then back to one of the nodes that were left behind. */
  #next(children: readonly Node[], best: Node): Node | undefined {
    const { depthMax } = this.#frozen.lats;
    const left = children.filter((node) => node !== best && node.depth < depthMax);
    this.#open.push(...left);
    if (best.depth < depthMax) return best;
    if (this.#open.length === 0) return undefined;
    const [node] = this.#open.splice(this.#streams.shape.int(0, this.#open.length - 1), 1);
    return node;
  }

  #promptTokens(kind: "question" | "instruction" | "observation"): number {
    const { width, tokensScale } = this.#frozen.lats;
    const valueShare = 1 / (width + 1);
    const share = this.#streams.prompts.next();
    const quantile =
      kind === "observation"
        ? valueShare + share * (1 - valueShare)
        : share * (kind === "question" ? SHORT_SHARE : valueShare);
    return tokens(promptTokens.quantile(quantile) * tokensScale, this.#frozen);
  }

  #decodeTokens(): number {
    const { decodes } = this.#streams;
    return tokens(decodeTokens.draw(decodes) * this.#frozen.lats.tokensScale, this.#frozen);
  }
}
