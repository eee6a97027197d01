/** Control requests: JSON or msgpack in, the same out. */
import {
  AutellixError,
  type ControlAnswer,
  controlSchema,
  decodeAs,
  type Encoding,
  encode,
  encodingOf,
  isName,
  subjects,
} from "@autellix/protocol";
import type { ReplyToken } from "./events.ts";
import type { Io } from "./io.ts";

/** Requests that wait for an answer; the oldest is given up, its caller repeats. */
const CONTROLS_MAX = 10_000;

export class ControlIo {
  readonly #io: Io;
  readonly #waiting = new Map<ReplyToken, { respond: (bytes: Uint8Array) => void; encoding: Encoding }>();
  #lastToken = 0;

  constructor(io: Io) {
    this.#io = io;
  }

  listen(): { unsubscribe(): void } {
    const { bus, pool, log } = this.#io;
    return bus.nc.subscribe(subjects.controlOfPool(pool), {
      callback: (error, message) => {
        if (error) log.warn({ err: error }, "control subscription");
        else this.#take(message.subject.split(".").at(-1) ?? "", message.data, (bytes) => void message.respond(bytes));
      },
    });
  }

  #take(tenant: string, data: Uint8Array, respond: (bytes: Uint8Array) => void): void {
    const encoding = encodingOf(data);
    try {
      if (!isName(tenant)) throw new AutellixError("invalid_request", "the tenant in the subject is not valid");
      const control = decodeAs(controlSchema, data);
      const token = ++this.#lastToken;
      this.#waiting.set(token, { respond, encoding });
      for (const oldest of this.#waiting.keys()) {
        if (this.#waiting.size <= CONTROLS_MAX) break;
        this.#waiting.delete(oldest);
      }
      this.#io.receive({ kind: "control", tenant, control, token });
    } catch (cause) {
      const { code, message } = cause instanceof AutellixError ? cause : new AutellixError("internal_error");
      if (code === "internal_error") this.#io.log.error({ err: cause }, "control request failed");
      respond(encode({ ok: false, error: { code, message } } satisfies ControlAnswer, encoding));
    }
  }

  answer(token: ReplyToken, answer: ControlAnswer): void {
    const waiting = this.#waiting.get(token);
    this.#waiting.delete(token);
    waiting?.respond(encode(answer, waiting.encoding));
  }
}
