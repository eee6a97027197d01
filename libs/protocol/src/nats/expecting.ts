/**
 * Publishes that expect a sequence. A stream of several servers refuses such a publish, without saying a sequence, while
 * another one on the way expects or writes the same subject: it cannot know yet what the subject will hold. That decides
 * nothing, so it is tried again. (Seen with R3 on 2.15.1: two engines that joined together made the leader of the pool
 * believe that it had lost its epoch.)
 */
import { JetStreamApiError, type JetStreamPublishOptions, type PubAck } from "@nats-io/jetstream";
import type { Bus } from "./bus.ts";

/** "wrong last sequence", without the sequence that it is. */
const BUSY_CODE = 10_164;
const BUSY_PAUSE_MS = 2;
const BUSY_PAUSE_MS_MAX = 50;
const BUSY_MS_MAX = 5_000;

/** By connection: the last publish that expects a subject other than its own. There once the server was busy with one. */
const turns = new WeakMap<Bus, Map<string, Promise<unknown>>>();

/**
 * Many writes that expect one subject, such as an epoch, would only keep each other from going through. From the first
 * busy answer on they wait for their turns; a server that is alone never gives one, and gets them side by side.
 *
 * @throws what the publish throws; the server's busy answer when it stays for `BUSY_MS_MAX`, which decides nothing.
 */
export async function publishExpecting(
  bus: Bus,
  subject: string,
  bytes: Uint8Array,
  options: Partial<JetStreamPublishOptions>,
): Promise<PubAck> {
  const other = options.expect?.lastSubjectSequenceSubject;
  const publish = () => bus.js.publish(subject, bytes, options);
  if (other === undefined) return await untilDecided(publish);
  const waiting = turns.get(bus)?.get(other);
  if (waiting === undefined) {
    try {
      return await publish();
    } catch (error) {
      if (!isBusy(error)) throw error;
    }
  }
  const queue = turns.get(bus) ?? new Map<string, Promise<unknown>>();
  turns.set(bus, queue);
  const turn = (queue.get(other) ?? Promise.resolve()).then(() => untilDecided(publish));
  // The next one's turn comes whatever becomes of this one.
  queue.set(
    other,
    turn.catch(() => {}),
  );
  return await turn;
}

async function untilDecided(publish: () => Promise<PubAck>): Promise<PubAck> {
  const untilMs = performance.now() + BUSY_MS_MAX;
  for (let pauseMs = BUSY_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, BUSY_PAUSE_MS_MAX)) {
    try {
      return await publish();
    } catch (error) {
      if (!isBusy(error) || performance.now() > untilMs) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.code === BUSY_CODE;
}
