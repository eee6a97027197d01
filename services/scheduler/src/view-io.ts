/** Questions about what the leader shows: JSON or msgpack in, the same out. */
import {
  AutellixError,
  decodeAs,
  type Encoding,
  encode,
  encodingOf,
  subjects,
  type ViewPage,
  viewAskSchema,
} from "@autellix/protocol";
import type { ReplyToken } from "./events.ts";
import type { Io } from "./io.ts";

export class ViewIo {
  readonly #io: Io;
  /** The question that is looked at: the machine answers at once, or never. */
  #asking: { token: ReplyToken; respond: (bytes: Uint8Array) => void; encoding: Encoding } | undefined;
  #lastToken = 0;

  constructor(io: Io) {
    this.#io = io;
  }

  listen(): { unsubscribe(): void } {
    const { bus, pool, log } = this.#io;
    return bus.nc.subscribe(subjects.view(pool), {
      callback: (error, message) => {
        if (error) log.warn({ err: error }, "view subscription");
        else this.#take(message.data, (bytes) => void message.respond(bytes));
      },
    });
  }

  #take(data: Uint8Array, respond: (bytes: Uint8Array) => void): void {
    const encoding = encodingOf(data);
    try {
      const ask = decodeAs(viewAskSchema, data);
      const token = ++this.#lastToken;
      this.#asking = { token, respond, encoding };
      this.#io.receive({ kind: "view", ask, token });
    } catch (cause) {
      const { code, message } = cause instanceof AutellixError ? cause : new AutellixError("internal_error");
      if (code === "internal_error") this.#io.log.error({ err: cause }, "view request failed");
      respond(encode({ ok: false, error: { code, message } }, encoding));
    } finally {
      this.#asking = undefined;
    }
  }

  answer(token: ReplyToken, page: ViewPage): void {
    if (this.#asking?.token === token) this.#asking.respond(encode(page, this.#asking.encoding));
  }
}
