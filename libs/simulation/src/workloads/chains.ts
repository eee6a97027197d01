/** Single-threaded workloads: chats, tool users, coding agents, one call, and programs that are all alike. */
import paper from "../data/paper-workloads.json" with { type: "json" };
import { Pmf } from "../random.ts";
import { chain, type Maker, sizes, streamsOf, toolMs } from "./content.ts";

const shareGptCalls = new Pmf(paper.callsPerProgram.ShareGPT.pmf);
const bfclCalls = new Pmf(paper.callsPerProgram.BFCL.pmf);

/** ShareGPT: whole conversations of a person with a chatbot (paper §6.1). */
export const sharegpt: Maker = (random, frozen) => {
  const streams = streamsOf(random);
  const { sharedPromptTokens, callsMax } = frozen.sharegpt;
  const { contextTokensMax } = frozen;
  const calls = Math.min(callsMax, shareGptCalls.draw(streams.shape));
  return {
    workload: "sharegpt",
    sharedPrompt: "chat",
    sharedPromptTokens,
    calls: chain(calls, { sharedPromptTokens, contextTokensMax }, (index) => ({
      ...sizes(streams, frozen.sharegpt, frozen),
      gapMs: index === 0 ? 0 : Math.round(streams.gaps.exponential(frozen.thinkMs)),
    })),
  };
};

/** BFCL v3: ReAct, a function call and its result per turn (paper §6.1). */
export const bfcl: Maker = (random, frozen) => {
  const streams = streamsOf(random);
  const { sharedPromptTokens } = frozen.bfcl;
  const { contextTokensMax } = frozen;
  return {
    workload: "bfcl",
    sharedPrompt: "tools",
    sharedPromptTokens,
    calls: chain(bfclCalls.draw(streams.shape), { sharedPromptTokens, contextTokensMax }, (index) => ({
      ...sizes(streams, frozen.bfcl, frozen),
      gapMs: index === 0 ? 0 : toolMs(streams, frozen),
    })),
  };
};

/** Coding agents whose programs have similar lengths: least attained service is no hint of what is left. */
export const swe: Maker = (random, frozen) => {
  const streams = streamsOf(random);
  const { sharedPromptTokens, turns, turnsDeviation, contextTokens, contextTokensMax, decodeTokens, variation } =
    frozen.swe;
  const newPromptTokens = (contextTokens - sharedPromptTokens) / turns - decodeTokens;
  const calls = Math.max(1, Math.round(streams.shape.normalAbove0(turns, turnsDeviation)));
  return {
    workload: "swe",
    sharedPrompt: "code",
    sharedPromptTokens,
    calls: chain(calls, { sharedPromptTokens, contextTokensMax }, (index) => ({
      ...sizes(streams, { newPromptTokens, decodeTokens, variation }, frozen),
      gapMs: index === 0 ? 0 : toolMs(streams, frozen),
    })),
  };
};

/** A question and an answer, as ShareGPT's: nothing is known of any program before its only call. */
export const oneCall: Maker = (random, frozen) => {
  const streams = streamsOf(random);
  const { sharedPromptTokens } = frozen.sharegpt;
  const { contextTokensMax } = frozen;
  return {
    workload: "one-call",
    sharedPrompt: "chat",
    sharedPromptTokens,
    calls: chain(1, { sharedPromptTokens, contextTokensMax }, () => ({
      ...sizes(streams, frozen.sharegpt, frozen),
      gapMs: 0,
    })),
  };
};

/** All programs alike, to the token: whatever a policy makes of the past, it is wrong. */
export const equal: Maker = (_random, frozen) => {
  const { sharedPromptTokens, calls, newPromptTokens, decodeTokens, gapMs } = frozen.equal;
  const { contextTokensMax } = frozen;
  return {
    workload: "equal",
    sharedPrompt: "equal",
    sharedPromptTokens,
    calls: chain(calls, { sharedPromptTokens, contextTokensMax }, (index) => ({
      newPromptTokens,
      decodeTokens,
      gapMs: index === 0 ? 0 : gapMs,
    })),
  };
};
