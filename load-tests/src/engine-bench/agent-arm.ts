/** The other arm: the same calls through a whole Autellix, whose worker agent has the engine's core for itself. */
import { frontendMessageSchema, listen, openBus, subjects } from "@autellix/protocol";
import { type Endpoint, openEndpoint } from "../http.ts";
import { firstModel } from "../run.ts";
import { type Stack, startStack } from "../stack.ts";
import { callAll, tokensPerS } from "./calls.ts";
import type { DecodeLoad } from "./load.ts";
import type { Measured } from "./pairs.ts";
import { type Cores, pin } from "./pin.ts";
import { DecodeWindow } from "./window.ts";

export interface AgentArmOptions {
  /** Of `npm start`. */
  args: readonly string[];
  env: Record<string, string>;
  cores: Cores | undefined;
  onProgress: (line: string) => void;
  signal: AbortSignal;
}

export class AgentArm {
  readonly #stack: Stack;
  readonly #endpoint: Endpoint;
  readonly #model: string;

  private constructor(stack: Stack, endpoint: Endpoint, model: string) {
    this.#stack = stack;
    this.#endpoint = endpoint;
    this.#model = model;
  }

  static async start({ args, env, cores, onProgress, signal }: AgentArmOptions): Promise<AgentArm> {
    const stack = await startStack({ args, env, onProgress, signal });
    try {
      if (cores !== undefined) {
        for (const { pid, name } of stack.processes()) await pin(pid, isAgent(name) ? cores.engine : cores.others);
      }
      const url = `${stack.baseUrl}/v1`;
      const endpoint = openEndpoint(url);
      return new AgentArm(stack, endpoint, await firstModel(endpoint, url));
    } catch (error) {
      await stack.stop();
      throw error;
    }
  }

  /** Tokens are counted where the agent publishes them, not where a client reads text. */
  async decode(load: DecodeLoad): Promise<Measured> {
    const before = this.#agentCpuMs();
    const window = new DecodeWindow(load.batch);
    const bus = await openBus({ url: this.#stack.natsUrl, name: "bench:engine" });
    try {
      let broken: unknown;
      const subscription = listen(
        bus,
        subjects.tokens("*"),
        frontendMessageSchema,
        (message) => {
          const now = performance.now();
          if (message.kind !== "tokens") return;
          for (const { call, index, count } of message.items) window.add(call, index + count, now);
        },
        (error) => {
          broken = error;
        },
      );
      await bus.nc.flush();
      await callAll(this.#endpoint, this.#model, load);
      subscription.unsubscribe();
      if (broken !== undefined) throw broken;
    } finally {
      await bus.nc.close();
    }
    const { tokensPerS, tokensAll } = window.throughput();
    return { tokensPerS, cpuMsPerToken: (this.#agentCpuMs() - before) / tokensAll };
  }

  /** What `act` gives, while such loads go through one after the other. */
  async during<T>(load: DecodeLoad, act: () => Promise<T>): Promise<T> {
    let over = false;
    const traffic = async () => {
      while (!over) await callAll(this.#endpoint, this.#model, load);
    };
    const goesOn = traffic();
    // What goes wrong in it is told when it is over.
    goesOn.catch(() => {});
    try {
      return await act();
    } finally {
      over = true;
      await goesOn;
    }
  }

  /** Over all of the load, prompts included. */
  async tokensPerS(load: DecodeLoad): Promise<number> {
    return await tokensPerS(this.#endpoint, this.#model, load);
  }

  #agentCpuMs(): number {
    return this.#stack.processes().reduce((sum, { name, cpuMs }) => sum + (isAgent(name) ? cpuMs : 0), 0);
  }

  async stop(): Promise<void> {
    this.#endpoint.close();
    await this.#stack.stop();
  }
}

function isAgent(process: string): boolean {
  return process.startsWith("worker-agent");
}
