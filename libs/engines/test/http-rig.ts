/** What the tests of the HTTP engine share. */
import { type HttpEngine, type HttpEngineOptions, type HttpLimits, openHttpEngine } from "../src/http/index.ts";
import type { EngineCall, StepCall } from "../src/port.ts";
import { ConformanceServer, type Mischief, type ServerOptions } from "./conformance-server/index.ts";

export interface HttpRig {
  server: ConformanceServer;
  engine: HttpEngine;
  /** What it logged, each line as `level: text`. */
  lines: string[];
}

/** Fast where a test would wait, else as shipped. */
export const FAST: Partial<HttpLimits> = { stepMs: 5, retryMsMin: 1, retryMsMax: 4, pollMs: 5 };

const rigs: HttpRig[] = [];

export async function makeHttpRig(
  options: ServerOptions,
  more: Partial<HttpEngineOptions> & { limits?: Partial<HttpLimits> } = {},
  mischief: Mischief = {},
): Promise<HttpRig> {
  const server = await new ConformanceServer(options).start();
  server.mischief = mischief;
  const lines: string[] = [];
  const engine = await openHttpEngine({
    url: server.url,
    slots: options.slots ?? 4,
    log: (level, text) => lines.push(`${level}: ${text}`),
    ...more,
    limits: { ...FAST, ...more.limits },
  });
  server.requests.length = 0;
  const rig = { server, engine, lines };
  rigs.push(rig);
  return rig;
}

/** After each test. */
export async function disposeRigs(): Promise<void> {
  for (const { server, engine } of rigs.splice(0)) {
    await engine.shutdown();
    await server.stop();
  }
}

/** Steps these calls until the condition holds. @returns all steps of each. */
export async function stepUntil(
  engine: HttpEngine,
  calls: readonly EngineCall[],
  condition: (steps: StepCall[][]) => boolean,
): Promise<StepCall[][]> {
  const steps: StepCall[][] = calls.map(() => []);
  for (let i = 0; i < 5_000; i++) {
    if (condition(steps)) return steps;
    const result = await engine.step(calls);
    for (const [at, step] of result.calls.entries()) steps[at]?.push(step);
  }
  throw new Error("the condition never held");
}
