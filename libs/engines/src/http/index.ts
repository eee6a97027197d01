/** Engines over HTTP: vLLM, SGLang, llama-server, and whatever else speaks OpenAI's chat. */
import { setTimeout as sleep } from "node:timers/promises";
import type { EngineInfo } from "@autellix/protocol";
import { HttpClient } from "./client.ts";
import type { Dialect } from "./dialect.ts";
import { discover, isPassing, type Wanted } from "./discover.ts";
import { HttpEngine } from "./engine.ts";
import { ServerFailure } from "./failure.ts";
import { HELD_CALLS_MAX, HTTP_LIMITS, type HttpEngineOptions, type HttpLimits, type HttpLog } from "./options.ts";
import { described, type Found, Server } from "./server.ts";

export { HttpEngine } from "./engine.ts";
export type { Health } from "./health.ts";
export { type DialectName, HTTP_LIMITS, type HttpEngineOptions, type HttpLimits, type HttpLog } from "./options.ts";
export type { ServerCounters } from "./server.ts";

/**
 * Waits for the server, finds out what it is and what it holds, and opens an engine on it.
 * @throws Error in one sentence for the operator: the server is none of ours, refuses the API key, or does not say its
 * slots and `slots` is not given. The signal's reason when it is aborted.
 */
export async function openHttpEngine(options: HttpEngineOptions): Promise<HttpEngine> {
  const limits: HttpLimits = { ...HTTP_LIMITS, ...options.limits };
  const log = options.log ?? (() => {});
  if (options.slots !== undefined && (!Number.isInteger(options.slots) || options.slots < 1)) {
    throw new Error(`slots must be a whole number from 1 on, not ${options.slots}.`);
  }
  const client = new HttpClient(options, limits);
  try {
    const wanted = wantedOf(options, log);
    const find = async (): Promise<Found> => {
      const dialect = await discover(client, wanted);
      return { dialect, info: infoOf(dialect, options) };
    };
    const found = await untilFound(client, find, options, limits, log);
    log("info", `${client.base.host} is ${described(found)}.`);
    for (const note of found.dialect.facts.notes) log("warn", `${client.base.host}: ${note}.`);
    return new HttpEngine(new Server({ client, found, find, limits, log }));
  } catch (error) {
    client.close();
    throw error;
  }
}

function wantedOf(options: HttpEngineOptions, log: HttpLog): Wanted {
  const unknown = new Set<string>();
  return {
    dialect: options.dialect ?? "auto",
    models: options.models ?? [],
    slots: options.slots,
    contextTokensMax: options.contextTokensMax,
    unknownFinish: (reason: string) => {
      if (unknown.size < UNKNOWN_MAX && !unknown.has(reason)) {
        unknown.add(reason);
        log("warn", `The server ends answers with "${reason}", which we do not know: told as "stop".`);
      }
    },
  };
}

async function untilFound(
  client: HttpClient,
  find: () => Promise<Found>,
  options: HttpEngineOptions,
  limits: HttpLimits,
  log: HttpLog,
): Promise<Found> {
  for (let told = false; ; told = true) {
    options.signal?.throwIfAborted();
    try {
      return await find();
    } catch (error) {
      if (!isPassing(error)) throw operatorError(error, client.base);
      const reason = error instanceof ServerFailure ? error.reason : "it does not answer";
      options.progress?.(`waiting for the server at ${client.base.host}: ${reason}`);
      if (!told) log("warn", `Waiting for the server at ${client.base.host}: ${reason}.`);
      const askedMs = error instanceof ServerFailure ? (error.retryAfterMs ?? 0) : 0;
      const pauseMs = Math.max(limits.pollMs, Math.min(askedMs, limits.retryAfterMsMax));
      await sleep(pauseMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
    }
  }
}

/** Reasons that are logged, once each. */
const UNKNOWN_MAX = 20;

/** For the operator, who has no call that a sentence could be about. */
function operatorError(error: unknown, base: URL): unknown {
  if (!(error instanceof ServerFailure)) return error;
  const hint = error.hint === undefined ? "" : ` See ${error.hint}.`;
  return new Error(`${base.host}: ${error.message}${hint}`, { cause: error });
}

function infoOf({ facts, byIds }: Dialect, options: HttpEngineOptions): EngineInfo {
  const slots = facts.slots ?? 1;
  return {
    kind: "http",
    models: options.models !== undefined && options.models.length > 0 ? [...options.models] : [facts.model],
    preemption: byIds === undefined ? "none" : "recompute",
    batchCallsMax: slots,
    residentCallsMax: slots,
    heldCallsMax: Math.max(options.heldCallsMax ?? HELD_CALLS_MAX, slots),
    ...facts.info,
    forwards: true,
  };
}
