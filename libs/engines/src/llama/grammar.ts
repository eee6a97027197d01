/** Grammars at work: which token may come next, given those that came. */
import { AutellixError } from "@autellix/protocol";
import { type Llama, type LlamaGrammar, LlamaGrammarEvaluationState, type LlamaModel } from "node-llama-cpp";
import { bindingsOf } from "./bindings.ts";
import { messageOf } from "./library.ts";

/** Where an answer stands in its grammar. */
export interface GrammarState {
  allows(id: number): boolean;
  /** Takes a token in that is allowed and no end. */
  accept(id: number): void;
  /** Whether the answer may end here. */
  readonly isComplete: boolean;
}

/** @throws AutellixError `unsupported_parameter` when llama.cpp cannot parse it. */
export async function compileGrammar(llama: Llama, grammar: string, param: string): Promise<LlamaGrammar> {
  try {
    return await llama.createGrammar({ grammar });
  } catch (cause) {
    const message = `${param} makes a grammar that llama.cpp does not take: ${messageOf(cause)}`;
    throw new AutellixError("unsupported_parameter", message, { param, cause });
  }
}

export function grammarState(model: LlamaModel, grammar: LlamaGrammar): GrammarState {
  // Its public interface only lets a state follow what the library itself samples; a resumed call must replay ids that
  // another attempt sampled.
  const { AddonSampler } = bindingsOf(model.llama);
  const state = new LlamaGrammarEvaluationState({ model, grammar });
  const native = (state as unknown as { _state: unknown })._state;
  const end = model.tokens.eos ?? model.tokens.eot;
  const allows = (id: number) => AddonSampler.canBeNextTokenForGrammarEvaluationState(native, id);
  return {
    allows,
    accept: (id) => AddonSampler.acceptGrammarEvaluationStateToken(native, id),
    get isComplete() {
      return end !== null && allows(end);
    },
  };
}
