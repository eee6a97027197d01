/** What the dashboard's tests have it show: programs that compete for the stack's engines, and a pool beside it. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const SERVICES = resolve(import.meta.dirname, "../../services");
/** Stands in each prompt. */
export const SECRET = "zanzibar";
const LONG_PROGRAMS = 9;
/** Long enough to be preempted several times, short enough to end in the test. */
export const LONG_TOKENS = 120;
const LONG_CALLS = 5;
const SHORT_PROGRAMS = 3;
const SHORT_TOKENS = 8;

/** Little room and short quanta, so that calls are preempted and swapped while one watches. */
export const LITTLE_ROOM = {
  AUTELLIX_BATCH_CALLS_MAX: "2",
  AUTELLIX_RESIDENT_CALLS_MAX: "3",
  AUTELLIX_LADDER: "fixed",
  AUTELLIX_LADDER_FIRST_MS: "300",
};

export interface LoadCall {
  model?: string;
  program: string;
  thread?: string;
  tokens: number;
}

/** @param url of a frontend. */
export async function send(
  url: string,
  { model = "simulated", program, thread, tokens }: LoadCall,
  signal: AbortSignal,
) {
  const messages = [{ role: "user", content: `Tell me about ${SECRET}, please.` }];
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "Autellix-Program-Id": program,
      ...(thread === undefined ? {} : { "Autellix-Thread-Id": thread }),
    },
    body: JSON.stringify({ model, messages, max_tokens: tokens }),
    signal,
  });
  await answer.text();
}

/** A pool of one simulated engine, beside the stack's own. @param pool also the engine's name. */
export function startPool(natsUrl: string, pool: string, model: string): { stop(): Promise<void> } {
  const env = {
    ...process.env,
    ...LITTLE_ROOM,
    AUTELLIX_NATS_URL: natsUrl,
    AUTELLIX_POOL: pool,
    AUTELLIX_ENGINE_ID: pool,
    AUTELLIX_ENGINE: "simulated",
    AUTELLIX_ENGINE_PRESET: "smollm2-cpu",
    AUTELLIX_MODEL_NAMES: model,
  };
  // They stop by themselves when this process dies: they see the channel close.
  const children = ["scheduler", "worker-agent"].map((service) =>
    fork(join(SERVICES, service, "src", "main.ts"), {
      env,
      execArgv: [],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    }),
  );
  return {
    async stop() {
      for (const child of children) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const ended = once(child, "exit");
        child.kill("SIGTERM");
        await ended;
      }
    },
  };
}

/** Long programs that fill the engines, and short ones that come while they run; for ever. */
export class Load {
  private readonly url: string;
  private readonly stopped = new AbortController();
  private readonly running: Promise<void>[] = [];

  constructor(url: string) {
    this.url = url;
    for (let i = 1; i <= LONG_PROGRAMS; i++)
      this.running.push(this.programs("long", i, LONG_PROGRAMS, { calls: LONG_CALLS, tokens: LONG_TOKENS, gapMs: 50 }));
    for (let i = 1; i <= SHORT_PROGRAMS; i++)
      this.running.push(this.programs("short", i, SHORT_PROGRAMS, { calls: 2, tokens: SHORT_TOKENS, gapMs: 600 }));
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    await Promise.all(this.running);
  }

  /** One after the other: `long-1`, `long-6`, … */
  private async programs(
    kind: string,
    first: number,
    step: number,
    size: { calls: number; tokens: number; gapMs: number },
  ): Promise<void> {
    const { signal } = this.stopped;
    for (let number = first; !signal.aborted; number += step) {
      const id = `${kind}-${number}`;
      for (let i = 0; i < size.calls && !signal.aborted; i++) {
        // A call that a killed process breaks is followed by the next one.
        await send(this.url, { program: id, tokens: size.tokens }, signal).catch(() => {});
        await pause(size.gapMs, undefined, { signal }).catch(() => {});
      }
      await fetch(`${this.url}/v1/programs/${id}`, { method: "DELETE", signal }).catch(() => {});
    }
  }
}
