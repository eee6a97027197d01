/** CALLS: the leader's consumer, made again after each loss of the connection, and acks. */
import { ackCall, ackSubjectOf, consumeCalls, deleteBody, keys, parseCallSubject, readKey } from "@autellix/protocol";
import { type Io, PAUSE_MS, pause } from "./io.ts";

/**
 * Between two tries of an ack. It is tried until it is confirmed: a cluster that lost a server answers nothing for 4 to
 * 16 s, and a call whose ack was left would stay in CALLS until the next leader reads it.
 */
const ACK_PAUSE_MS_MAX = 5_000;

type Messages = Awaited<ReturnType<typeof consumeCalls>>;
type Message = Parameters<typeof ackSubjectOf>[0];

export class CallsIo {
  readonly #io: Io;
  /** Ack subjects of un-acked calls, by sequence: strings instead of messages. */
  readonly #ackSubjects = new Map<number, string>();
  #messages: Messages | undefined;

  constructor(io: Io) {
    this.#io = io;
  }

  /** Ends the present consumer's reading; `run` makes a fresh one unless the service has stopped. */
  stop(): void {
    this.#messages?.stop();
  }

  /**
   * Reads until the service stops.
   * @param toRead calls that were un-acked when `first` was made; `callsRead` follows when so many different ones are
   * read. A call that comes twice, after a loss of the connection, counts once.
   */
  async run(first: Messages, toRead: number): Promise<void> {
    const { bus, pool, log } = this.#io;
    let unread = toRead;
    if (unread === 0) this.#io.receive({ kind: "callsRead" });
    let messages: Messages | undefined = first;
    while (!this.#io.stopped) {
      try {
        messages ??= await consumeCalls(bus, pool, this.#io.epoch, { fresh: true });
        this.#messages = messages;
        for await (const message of messages) {
          const isNew = !this.#ackSubjects.has(message.seq);
          this.#read(message);
          if (isNew && --unread === 0) this.#io.receive({ kind: "callsRead" });
        }
      } catch (error) {
        log.warn({ err: error, epoch: this.#io.epoch }, "the calls' consumer ended");
      }
      messages = undefined;
      if (this.#io.stopped) return;
      await pause(PAUSE_MS);
      await this.#checkEpoch();
    }
  }

  #read(message: Message): void {
    const address = parseCallSubject(message.subject);
    if (!address) return;
    this.#ackSubjects.set(message.seq, ackSubjectOf(message));
    const field = (name: string) => message.headers?.get(name) ?? "";
    const bodyBytes = Number(field("Nats-Msg-Size")) || 0;
    const storedAtMs = message.time.getTime();
    this.#io.receive({ kind: "call", message: { address, seq: message.seq, storedAtMs, bodyBytes, field } });
  }

  /** A consumer that was deleted by a higher epoch must not be made again (S5). */
  async #checkEpoch(): Promise<void> {
    const { bus, pool, log, epoch } = this.#io;
    try {
      const entry = await readKey(bus, keys.epoch(pool));
      if (entry && entry.seq > epoch) this.#io.stepDown(`epoch ${entry.seq} exists`);
    } catch (error) {
      log.debug({ err: error }, "epoch not read");
    }
  }

  async ack(seq: number, bodyObject: string | undefined): Promise<void> {
    for (let pauseMs = PAUSE_MS; !this.#io.stopped; pauseMs = Math.min(2 * pauseMs, ACK_PAUSE_MS_MAX)) {
      // Read each time: after a reconnect the call comes again under another ack subject. One that was acked before
      // does not, and the consumer that was made anew under the same name confirms its old one.
      const subject = this.#ackSubjects.get(seq);
      if (subject === undefined || (await ackCall(this.#io.bus, subject))) break;
      await pause(pauseMs);
    }
    this.#ackSubjects.delete(seq);
    if (bodyObject) await deleteBody(this.#io.bus, bodyObject);
  }
}
