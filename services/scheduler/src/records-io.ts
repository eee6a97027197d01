/** OUTCOMES and DEAD, and the ends that follow a stored record. */
import {
  ask,
  callKey,
  confirmSchema,
  encodeOutcome,
  errorBody,
  headers,
  outcomesShareUsed,
  parseReply,
  type RecordHead,
  readOutcome,
  sendInbox,
  storeDead,
  writeOutcomeRecord,
} from "@autellix/protocol";
import type { Effect, RecordWrite } from "./events.ts";
import { type Io, PAUSE_MS, pause } from "./io.ts";

/** An end is a request, repeated up to 30 s until it is confirmed (design §2.7). */
const END_REPEAT_MS = 1_000;
const END_REPEATS_MAX = 30;

type EffectOf<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

export class RecordsIo {
  readonly #io: Io;

  constructor(io: Io) {
    this.#io = io;
  }

  async write(write: RecordWrite): Promise<void> {
    const { head, body } = this.#recordOf(write);
    const result = await writeOutcomeRecord(this.#io.bus, write.address, head, body, write.expect);
    this.#io.receive({ kind: "wrote", write, result });
  }

  #recordOf(write: RecordWrite): { head: RecordHead; body: Uint8Array } {
    if (write.kind === "outcome") return { head: write.head, body: encodeOutcome(write.body, write.encoding) };
    const { attempt, cause, crashes } = write;
    const head = { kind: "marker", attempt, epoch: this.#io.epoch, engine: "scheduler", cause, crashes } as const;
    return { head, body: new Uint8Array() };
  }

  async read(write: RecordWrite): Promise<void> {
    const result = await readOutcome(this.#io.bus, write.address, "leader");
    this.#io.receive({ kind: "read", write, result });
  }

  async storeDead({ write, seq, reason }: EffectOf<"storeDead">): Promise<void> {
    while (!this.#io.stopped) {
      try {
        await storeDead(this.#io.bus, write.address, seq, reason);
        this.#io.receive({ kind: "deadStored", write });
        return;
      } catch (error) {
        this.#io.log.warn({ err: error, call: write.call }, "dead letter not stored yet");
        await pause(PAUSE_MS);
      }
    }
  }

  /** To a frontend a request, repeated until confirmed; to an inbox one message, of what this scheduler ended itself. */
  async sendEnd({ address, reply, status, body, encoding }: EffectOf<"sendEnd">): Promise<void> {
    const { bus } = this.#io;
    const target = parseReply(reply);
    if (!target) return;
    if (target.kind === "inbox") {
      // Who wrote a completed record has sent its end to the inbox; a second one would be a second answer (S2).
      if (!body?.error) return;
      sendInbox(bus, target.subject, errorBody(body.error.code, body.error.message), { [headers.end]: status });
      return;
    }
    const message = { kind: "end", call: callKey(address.tenant, address.callId), pool: address.pool, status };
    const full = body ? { ...message, body: encodeOutcome(body, encoding) } : message;
    for (let tries = 0; tries < END_REPEATS_MAX && !this.#io.stopped; tries++) {
      if (await ask(bus, reply, full, confirmSchema, END_REPEAT_MS)) return;
      await pause(PAUSE_MS);
    }
  }

  async lookUp({ address, token }: EffectOf<"lookUpOutcome">): Promise<void> {
    const result = await readOutcome(this.#io.bus, address, "leader");
    const ended = result.kind === "found" && result.record.head.kind === "outcome";
    this.#io.receive({ kind: "outcomeLookedUp", token, ended });
  }

  async pollUse(): Promise<void> {
    try {
      this.#io.receive({ kind: "outcomesUsed", share: await outcomesShareUsed(this.#io.bus) });
    } catch (error) {
      this.#io.log.debug({ err: error }, "outcomes stream not read");
    }
  }
}
