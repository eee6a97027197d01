/**
 * Native samplers that go round. node-llama-cpp makes one for each token of `controlledEvaluate`: a table of the whole
 * vocabulary (600 KB for 49,152 tokens), written once for nothing and freed only when V8 next collects, which knows
 * nothing of its size. With a small model that was a quarter of a step's CPU time, and a gigabyte that came and went.
 * A sampler takes a new configuration with each token anyway; `evaluate()` of the library uses one for a whole answer.
 */
import type { Llama, LlamaModel } from "node-llama-cpp";
import { type Bindings, bindingsOf, type NativeSampler, nativeModelOf } from "./bindings.ts";

type SamplerClass = Bindings["AddonSampler"];

/** By native model: those that nobody uses. As many as were ever in use at once, which is the largest batch. */
const idle = new WeakMap<object, NativeSampler[]>();
/** Those classes that give idle ones out: the native part is one for all `Llama`s of a process. */
const reusing = new WeakSet<SamplerClass>();

/** From now on, samplers of this process go round. */
export function reuseSamplers(llama: Llama): void {
  const bindings = bindingsOf(llama);
  if (reusing.has(bindings.AddonSampler)) return;
  const AddonSampler = new Proxy(bindings.AddonSampler, {
    construct: (made, [model]: [object]) => idle.get(model)?.pop() ?? make(made, model),
  });
  reusing.add(AddonSampler);
  bindings.AddonSampler = AddonSampler;
}

function make(AddonSampler: SamplerClass, model: object): NativeSampler {
  const sampler = new AddonSampler(model);
  const giveBack = () => {
    const others = idle.get(model);
    if (others === undefined) idle.set(model, [sampler]);
    else if (!others.includes(sampler)) others.push(sampler);
  };
  Object.defineProperty(sampler, "dispose", { value: giveBack });
  return sampler;
}

/** Before the model is disposed: an idle sampler holds it. @returns how many there were. */
export function freeSamplers(model: LlamaModel): number {
  const native = nativeModelOf(model);
  const samplers = idle.get(native) ?? [];
  idle.delete(native);
  // Their own `dispose` would give them back.
  for (const sampler of samplers) (Object.getPrototypeOf(sampler) as NativeSampler).dispose.call(sampler);
  return samplers.length;
}
