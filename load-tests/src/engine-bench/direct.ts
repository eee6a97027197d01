/**
 * The yardstick: node-llama-cpp as its users drive it, without a line of ours. One sequence for each call, and a loop
 * over `evaluate()` for each; the library decodes together what is pending together. Prompts are in the model's chat
 * format, as the agent's are.
 */
import {
  type ChatWrapper,
  getLlama,
  type LlamaContext,
  LlamaLogLevel,
  type LlamaModel,
  resolveChatWrapper,
  type Token,
} from "node-llama-cpp";
import { type DecodeLoad, promptOf, seedOf, TEMPERATURE } from "./load.ts";
import { DecodeWindow, type Throughput } from "./window.ts";

export interface DirectOptions {
  modelFile: string;
  gpu: "auto" | false;
  sequences: number;
  contextTokens: number;
}

/** As our engine samples: llama.cpp's own default. */
const TOP_K = 40;
const THREADS = 1;

export class Direct {
  readonly #model: LlamaModel;
  readonly #context: LlamaContext;
  readonly #wrapper: ChatWrapper;

  private constructor(model: LlamaModel, context: LlamaContext) {
    this.#model = model;
    this.#context = context;
    this.#wrapper = resolveChatWrapper(model, { warningLogs: false });
  }

  static async open({ modelFile, gpu, sequences, contextTokens }: DirectOptions): Promise<Direct> {
    const llama = await getLlama({ gpu, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error });
    const model = await llama.loadModel({ modelPath: modelFile });
    const context = await model.createContext({
      contextSize: contextTokens,
      sequences,
      flashAttention: true,
      ...(llama.gpu === false ? { threads: THREADS } : {}),
    });
    return new Direct(model, context);
  }

  async decode(load: DecodeLoad): Promise<Throughput> {
    const window = new DecodeWindow(load.batch);
    await Promise.all(Array.from({ length: load.batch }, (_, index) => this.#call(load, index, window)));
    return window.throughput();
  }

  async #call(load: DecodeLoad, index: number, window: DecodeWindow): Promise<void> {
    const sequence = this.#context.getSequence();
    try {
      const prompt = this.#prompt(promptOf(load, index));
      const options = { temperature: TEMPERATURE, topK: TOP_K, seed: seedOf(load, index), yieldEogToken: true };
      let tokens = 0;
      for await (const _ of sequence.evaluate(prompt, options)) {
        window.add(index, ++tokens, performance.now());
        if (tokens >= load.tokens) break;
      }
    } finally {
      await sequence.dispose();
    }
  }

  #prompt(text: string): Token[] {
    const chatHistory = [
      { type: "user" as const, text },
      { type: "model" as const, response: [] },
    ];
    return this.#wrapper.generateContextState({ chatHistory }).contextText.tokenize(this.#model.tokenizer);
  }
}
