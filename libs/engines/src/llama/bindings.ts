/**
 * The native part of node-llama-cpp, which its types leave out: hence the exact version in `package.json`, and one file
 * that says what of it is used.
 */
import type { Llama, LlamaModel } from "node-llama-cpp";

export interface NativeSampler {
  dispose(): void;
}

export interface Bindings {
  AddonSampler: {
    new (model: object): NativeSampler;
    canBeNextTokenForGrammarEvaluationState(state: unknown, id: number): boolean;
    acceptGrammarEvaluationStateToken(state: unknown, id: number): void;
  };
}

export function bindingsOf(llama: Llama): Bindings {
  return (llama as unknown as { _bindings: Bindings })._bindings;
}

export function nativeModelOf(model: LlamaModel): object {
  return (model as unknown as { _model: object })._model;
}
