/** The queue of a system under test. */
import { CALLS_STREAM, openBus } from "@autellix/protocol";
import { expect } from "vitest";

/** Waits until no call is left in it. */
export async function queueDrained(natsUrl: string, msMax: number): Promise<void> {
  const bus = await openBus({ url: natsUrl, name: "queue test" });
  try {
    const left = async () => (await bus.jsm.streams.info(CALLS_STREAM)).state.messages;
    await expect.poll(left, { timeout: msMax, interval: 100 }).toBe(0);
  } finally {
    await bus.nc.close();
  }
}
