/**
 * A delivery that is lost while no connection is, as when a server dies through which it was on its way: somebody else
 * takes it from the same consumer and keeps it.
 */
import { type Bus, CALLS_STREAM } from "@autellix/protocol";

/** The server serves those who ask by turns: of two calls that come now, one is lost. */
export interface LostDelivery {
  /** The call's subject, once it is lost. */
  subject?: string;
}

/** @returns when the consumer has been asked. */
export async function loseOneDelivery(bus: Bus, consumer: string): Promise<LostDelivery> {
  const lost: LostDelivery = {};
  const from = await bus.js.consumers.get(CALLS_STREAM, consumer);
  const taken = await from.fetch({ max_messages: 1, expires: 30_000 });
  void (async () => {
    for await (const { subject } of taken) lost.subject = subject;
  })();
  await bus.nc.flush();
  return lost;
}
