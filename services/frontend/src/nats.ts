/**
 * The frontend's questions to NATS, one method each. They decide nothing: "no answer" is one of the answers.
 */
import {
  AutellixError,
  ask,
  type Bus,
  type CallKey,
  type Control,
  type ControlAnswer,
  controlAnswerSchema,
  decode,
  decodeAs,
  type GapAnswer,
  gapAnswerSchema,
  getBody,
  headers,
  outcomeBodySchema,
  type PublishResult,
  publishCall,
  readOutcome,
  subjects,
} from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import type { Effect, OutcomeRead } from "./events.ts";
import type { Outcome } from "./outcome.ts";

/** Time that an agent or a leader has to answer one question; questions are repeated. */
const ASK_MS_MAX = 2_000;

type EffectOf<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

export class NatsSide {
  readonly #bus: Bus;
  readonly #log: Logger;
  readonly #replySubject: string;

  /** @param replySubject where tokens of this frontend's calls go. */
  constructor(bus: Bus, log: Logger, replySubject: string) {
    this.#bus = bus;
    this.#log = log;
    this.#replySubject = replySubject;
  }

  async publish({ key, address, call, program, deadlineMs }: EffectOf<"publish">): Promise<PublishResult["kind"]> {
    const optional = (name: string, value: string | number | undefined) =>
      value === undefined ? {} : { [name]: String(value) };
    const fields = {
      [headers.program]: program,
      ...optional(headers.thread, call.thread),
      ...(call.parents.length > 0 ? { [headers.parents]: call.parents.join(",") } : {}),
      [headers.reply]: this.#replySubject,
      ...optional(headers.deadlineMs, deadlineMs),
      ...optional(headers.trace, call.trace),
      [headers.promptTokens]: String(call.promptTokens),
      ...optional(headers.completionTokensMax, call.completionTokensMax),
      [headers.encoding]: "msgpack",
    };
    let result: PublishResult;
    try {
      result = await publishCall(this.#bus, { address, body: call.body, fields });
    } catch (cause) {
      result = { kind: "unknown", cause };
    }
    if (result.kind === "unknown") {
      this.#log.warn({ call: key, err: result.cause }, "a publish was not answered: it is repeated under the same id");
    }
    return result.kind;
  }

  async askTokens({ key, engine, from }: EffectOf<"askTokens">): Promise<GapAnswer | undefined> {
    return await ask(this.#bus, subjects.ask(engine), { kind: "tokens", call: key, from }, gapAnswerSchema, ASK_MS_MAX);
  }

  async control(pool: string, tenant: string, message: Control): Promise<ControlAnswer | undefined> {
    const answer = await ask(this.#bus, subjects.control(pool, tenant), message, controlAnswerSchema, ASK_MS_MAX);
    return answer as ControlAnswer | undefined; // the schema has checked the code, which its type does not show
  }

  async readOutcome({ key, address, purpose }: EffectOf<"readOutcome">): Promise<OutcomeRead> {
    const found = await readOutcome(this.#bus, address, "leader");
    if (found.kind === "unknown") return { kind: "unknown" };
    if (found.kind === "none" || found.record.head.kind === "marker") return { kind: "none" };
    return await this.#outcomeOf(key, found.record.body, purpose === "call");
  }

  /** @param whole with the answer itself, also when it is in the object store. */
  async #outcomeOf(key: CallKey, body: Uint8Array, whole: boolean): Promise<OutcomeRead> {
    try {
      const outcome = decodeAs(outcomeBodySchema, body);
      if (!whole || outcome.response !== undefined || outcome.response_object === undefined) {
        return { kind: "outcome", outcome };
      }
      const response = decode(await getBody(this.#bus, outcome.response_object));
      return { kind: "outcome", outcome: { ...outcome, response: response as Outcome["response"] } };
    } catch (error) {
      // The store did not answer: read again.
      if (!(error instanceof AutellixError) || error.code === "queue_unavailable") return { kind: "unknown" };
      this.#log.error({ call: key, code: error.code, reason: error.message }, "a stored outcome cannot be used");
      const code = error.code === "result_expired" ? "result_expired" : "internal_error";
      return { kind: "broken", code, message: "the stored answer cannot be read" };
    }
  }
}
