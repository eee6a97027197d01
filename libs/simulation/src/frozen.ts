/**
 * The one configuration of all workloads, frozen before any policy was run on them. The paper gives distributions of
 * calls per program, means of tokens per call, and LATS's histograms (`data/paper-workloads.json`); what it leaves
 * open has its number here, with the reason. None was chosen by what a policy makes of it; each is varied in
 * `sensitivities`, so that a reader sees what a conclusion hangs on.
 */
import type { WorkloadName } from "./workloads/names.ts";

/** Log-normal sizes: mean, and coefficient of variation. */
export interface TokensPerCall {
  newPromptTokens: number;
  decodeTokens: number;
  /** Of both; drawn apart. */
  variation: number;
}

export interface Frozen {
  /** Gaps of bursty arrivals: hyperexponential with this coefficient of variation (Poisson: 1). */
  burstyVariation: number;
  /** A person's mean time between an answer and the next question; exponential. */
  thinkMs: number;
  /** A tool's time: log-normal. */
  tool: { meanMs: number; variation: number };
  /** A program of the paper's workloads ends before its context is longer. */
  contextTokensMax: number;
  /** Of the new prompt tokens, and of the answer. */
  tokensPerCallMax: number;
  sharegpt: TokensPerCall & { sharedPromptTokens: number; callsMax: number };
  bfcl: TokensPerCall & { sharedPromptTokens: number };
  lats: { sharedPromptTokens: number; width: number; depthMax: number; tokensScale: number };
  swe: {
    sharedPromptTokens: number;
    turns: number;
    turnsDeviation: number;
    /** Context at the end of a program with the mean number of turns. */
    contextTokens: number;
    /** A program ends before its context is longer. */
    contextTokensMax: number;
    decodeTokens: number;
    variation: number;
  };
  deepResearch: {
    sharedPromptTokens: number;
    roundsMin: number;
    roundsMax: number;
    /** Searches of a round: log-normal. */
    width: number;
    widthVariation: number;
    widthMax: number;
    /** Calls of one search, each on what the last one found. */
    searchCallsMin: number;
    searchCallsMax: number;
    search: TokensPerCall;
    /** The answer of each search that the joining call reads. */
    findingTokens: number;
    planTokens: number;
    reportTokens: number;
  };
  agentx: {
    sharedPromptTokens: number;
    turnsMedian: number;
    turnsVariation: number;
    turnsMax: number;
    /** Context at the end of a program with the median number of turns. */
    contextTokens: number;
    /** A thread whose context would be longer starts over from a summary. */
    contextTokensMax: number;
    decodeTokens: number;
    variation: number;
    /** Share of programs that start sub-agents. */
    subAgentsShare: number;
    subAgentsMax: number;
    subAgentTurns: number;
    /** What a thread begins with when it starts: a sub-agent's order, or the summary of a context that is full. */
    briefTokens: number;
  };
  equal: { sharedPromptTokens: number; calls: number; newPromptTokens: number; decodeTokens: number; gapMs: number };
}

/** Shared prompt of single-threaded workloads: Fig. 7's chatbot has 1,080–1,280 tokens in common across programs. */
const CHAT_PROMPT_TOKENS = 1_120;
/** The same of multi-threaded ones: Fig. 7's MCTS has 1,560–1,800. */
const SEARCH_PROMPT_TOKENS = 1_632;

export const frozen: Frozen = {
  // Open (the paper has Poisson only). Three times as uneven as Poisson is what a day's peaks look like from inside.
  burstyVariation: 3,
  // Open. Somebody reads an answer of 277 tokens and writes a question; 10 s is the short end, so it favours no queue.
  thinkMs: 10_000,
  // Open. 0.9 ± 3.5 s was measured on coding agents (Continuum, arXiv 2511.02230). A normal cut at 0 with these
  // parameters would have a mean of 3.1 s; a log-normal keeps both moments, and tools are heavy-tailed.
  tool: { meanMs: 900, variation: 3.5 / 0.9 },
  // The longest input of Fig. 7. It cuts 1 in 6,000 conversations.
  contextTokensMax: 150_000,
  // Open. A guard: less than 1 in 10,000 draws of the widest distribution (SWE-like prompts) meet it.
  tokensPerCallMax: 65_536,
  sharegpt: {
    // Means: paper. Spread: open; single answers of ShareGPT vary more than their mean.
    newPromptTokens: 256,
    decodeTokens: 277,
    variation: 1.2,
    // Fig. 7, see above and sharing.ts.
    sharedPromptTokens: CHAT_PROMPT_TOKENS,
    // The plotted distribution reaches 389 and has the stated mean only with its tail; the text says at most 80.
    callsMax: 389,
  },
  bfcl: {
    // Means: paper. Spread: open; answers are function calls of one form, results differ more than questions do.
    newPromptTokens: 735,
    decodeTokens: 34,
    variation: 0.8,
    // Open (Fig. 7 has no ReAct). As the other single-threaded workload.
    sharedPromptTokens: CHAT_PROMPT_TOKENS,
  },
  lats: {
    sharedPromptTokens: SEARCH_PROMPT_TOKENS,
    // Open. The plotted numbers of calls are 16, 22, 28, 34, 39, 45, 51: a round has 6, so 5 children and one to judge.
    width: 5,
    // Open. With it and the paper's sizes inputs reach the 9k tokens of Fig. 7.
    depthMax: 7,
    // Sizes: the paper's histograms.
    tokensScale: 1,
  },
  swe: {
    // Open. As the other single-threaded workloads.
    sharedPromptTokens: CHAT_PROMPT_TOKENS,
    turns: 10.9,
    turnsDeviation: 2.1,
    // Read as what a program's context holds at its end.
    contextTokens: 70_000,
    // As the paper's workloads. It cuts 1 in 800 programs.
    contextTokensMax: 150_000,
    // Open. A thought and a command or a small patch.
    decodeTokens: 300,
    // Open. As BFCL: files and outputs of tools.
    variation: 0.8,
  },
  // No source gives its sizes; the shape is that of published map-reduce research agents, on the large side.
  deepResearch: {
    sharedPromptTokens: SEARCH_PROMPT_TOKENS,
    roundsMin: 2,
    roundsMax: 4,
    width: 20,
    widthVariation: 0.5,
    widthMax: 64,
    searchCallsMin: 2,
    searchCallsMax: 6,
    // An excerpt of a page, and a note on it.
    search: { newPromptTokens: 2_000, decodeTokens: 200, variation: 0.8 },
    findingTokens: 300,
    planTokens: 800,
    reportTokens: 4_000,
  },
  agentx: {
    // Open. Instructions and tool definitions of a coding agent.
    sharedPromptTokens: 16_384,
    turnsMedian: 43,
    // Open. Long sessions are several times as long as the median.
    turnsVariation: 0.8,
    turnsMax: 400,
    // Read as the input that a median program reaches; with it more than 95 % of all input is found in an ideal cache.
    contextTokens: 142_000,
    // As the paper's workloads: nearly half of the sessions reach it.
    contextTokensMax: 150_000,
    decodeTokens: 444,
    variation: 0.8,
    subAgentsShare: 0.44,
    // Open: how many, and how long.
    subAgentsMax: 4,
    subAgentTurns: 8,
    briefTokens: 4_000,
  },
  // Whatever is alike: sizes between ShareGPT's and BFCL's.
  equal: { sharedPromptTokens: CHAT_PROMPT_TOKENS, calls: 8, newPromptTokens: 512, decodeTokens: 128, gapMs: 1_000 },
};

/** Numbers of the frozen configuration to be changed, as plain data; what is not named stays. */
export type FrozenChanges = {
  readonly [Key in keyof Frozen]?: Frozen[Key] extends number ? number : Partial<Frozen[Key]>;
};

/** The frozen configuration with changes. @throws RangeError for a name that it does not have, or no number ≥ 0. */
export function changed(changes: FrozenChanges = {}): Frozen {
  return merge(frozen, changes) as Frozen;
}

function merge(base: object, changes: object, path = ""): object {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(changes)) {
    const old = merged[key];
    if (typeof old === "object" && old !== null && typeof value === "object" && value !== null)
      merged[key] = merge(old, value, `${path}${key}.`);
    else if (typeof old === "number" && typeof value === "number" && value >= 0) merged[key] = value;
    else throw new RangeError(`"${path}${key}" is not a number of the configuration that can be ${value}`);
  }
  return merged;
}

/** One number of the frozen configuration changed: what a conclusion is tested against. */
export interface Sensitivity {
  name: string;
  /** Workloads that it changes. */
  workloads: readonly WorkloadName[];
  changes: FrozenChanges;
}

function halfAndDouble(
  name: string,
  workloads: readonly WorkloadName[],
  changes: (factor: number) => FrozenChanges,
): Sensitivity[] {
  return [
    { name: `${name} ×½`, workloads, changes: changes(0.5) },
    { name: `${name} ×2`, workloads, changes: changes(2) },
  ];
}

const { sharegpt, bfcl, lats, swe, agentx, deepResearch } = frozen;
const talking = ["sharegpt", "mixed"] as const;
const withTools = ["bfcl", "lats", "mixed", "swe", "deep-research", "agentx"] as const;

/** Each number that the paper leaves open, halved and doubled, and its special values. */
export const sensitivities: readonly Sensitivity[] = [
  { name: "think time 0", workloads: talking, changes: { thinkMs: 0 } },
  ...halfAndDouble("think time", talking, (factor) => ({ thinkMs: frozen.thinkMs * factor })),
  ...halfAndDouble("tool time", withTools, (factor) => ({ tool: { meanMs: frozen.tool.meanMs * factor } })),
  ...halfAndDouble("LATS width", ["lats", "mixed"], (factor) => ({ lats: { width: Math.round(lats.width * factor) } })),
  ...halfAndDouble("LATS depth", ["lats", "mixed"], (factor) => ({
    lats: { depthMax: Math.round(lats.depthMax * factor) },
  })),
  ...halfAndDouble("shared prompt", ["sharegpt", "bfcl", "lats", "mixed", "swe", "one-call"], (factor) => ({
    sharegpt: { sharedPromptTokens: sharegpt.sharedPromptTokens * factor },
    bfcl: { sharedPromptTokens: bfcl.sharedPromptTokens * factor },
    lats: { sharedPromptTokens: lats.sharedPromptTokens * factor },
    swe: { sharedPromptTokens: swe.sharedPromptTokens * factor },
  })),
  { name: "ShareGPT at most 80 calls", workloads: talking, changes: { sharegpt: { callsMax: 80 } } },
  ...halfAndDouble("token variation", ["sharegpt", "bfcl", "mixed", "swe", "one-call"], (factor) => ({
    sharegpt: { variation: sharegpt.variation * factor },
    bfcl: { variation: bfcl.variation * factor },
    swe: { variation: swe.variation * factor },
  })),
  ...halfAndDouble("context", ["swe", "agentx"], (factor) => ({
    swe: { contextTokens: swe.contextTokens * factor, contextTokensMax: swe.contextTokensMax * factor },
    agentx: { contextTokens: agentx.contextTokens * factor, contextTokensMax: agentx.contextTokensMax * factor },
  })),
  ...halfAndDouble("research width", ["deep-research"], (factor) => ({
    deepResearch: { width: deepResearch.width * factor },
  })),
];
