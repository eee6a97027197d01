/** JSON for readers outside, with a header where it marks the end. */
import { type Bus, encode } from "@autellix/protocol";
import { headers as natsHeaders } from "@nats-io/transport-node";

/** Fire and forget: an inbox confirms nothing, the outcome is its guarantee. */
export function sendJson(bus: Bus, subject: string, message: unknown, fields: Record<string, string>): void {
  if (bus.nc.isClosed() || bus.nc.isDraining()) return;
  const made = natsHeaders();
  for (const [name, value] of Object.entries(fields)) made.set(name, value);
  bus.nc.publish(subject, encode(message, "json"), { headers: made });
}
