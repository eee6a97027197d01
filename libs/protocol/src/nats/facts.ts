/** Asking every process of the system what it knows of itself. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { decodeAs, encode } from "../codec.ts";
import { AutellixError } from "../errors.ts";
import { type Facts, factsSchema, PROTOCOL_VERSION } from "../facts.ts";
import { subjects } from "../subjects.ts";
import type { Bus } from "./bus.ts";

/** Of the packages, which have one version together. */
export const VERSION = "0.1.0";
/** Answers that one question takes. */
const ANSWERS_MAX = 10_000;

export type OwnFacts = Omit<Facts, "instance" | "host" | "pid" | "version" | "protocol" | "atMs">;

/** An answer, and when it was asked for and heard, by the asker's clock (Unix ms). */
export interface HeardFacts {
  facts: Facts;
  askedAtMs: number;
  heardAtMs: number;
}

/** Answers for this process until its connection closes. @param own what the service adds, looked up at each question. */
export function answerFacts(
  bus: Bus,
  own: () => OwnFacts | Promise<OwnFacts>,
  onProblem: (error: unknown) => void,
): void {
  const instance = randomUUID();
  bus.nc.subscribe(subjects.facts, {
    callback: (error, message) => {
      if (error) {
        onProblem(error);
        return;
      }
      void Promise.resolve()
        .then(own)
        .then((mine) => {
          const who = { instance, host: hostname(), pid: process.pid, version: VERSION, protocol: PROTOCOL_VERSION };
          message.respond(encode({ ...mine, ...who, atMs: Date.now() } satisfies Facts));
        })
        .catch(onProblem);
    },
  });
}

/**
 * @param waitMs all of it is waited: nobody knows how many will answer.
 * @param onInvalid told of answers that are none.
 */
export async function gatherFacts(bus: Bus, waitMs: number, onInvalid: (text: string) => void): Promise<HeardFacts[]> {
  const heard: HeardFacts[] = [];
  const inbox = `_INBOX.facts-${randomUUID()}`;
  let askedAtMs = 0;
  const subscription = bus.nc.subscribe(inbox, {
    max: ANSWERS_MAX,
    callback: (error, message) => {
      if (error || message.data.length === 0) return;
      try {
        heard.push({ facts: decodeAs(factsSchema, message.data), askedAtMs, heardAtMs: Date.now() });
      } catch (cause) {
        onInvalid(cause instanceof AutellixError ? cause.message : String(cause));
      }
    },
  });
  await bus.nc.flush();
  askedAtMs = Date.now();
  bus.nc.publish(subjects.facts, encode({}), { reply: inbox });
  await new Promise((resolve) => setTimeout(resolve, waitMs));
  subscription.unsubscribe();
  return heard;
}
