/** The connection to NATS, as each service has one. */
import { type Bus, busUse } from "@autellix/protocol";
import type { Metrics } from "./metrics.ts";

export function addBusMetrics(metrics: Metrics, bus: Bus): void {
  metrics.gauge("autellix_nats_connected", "1 while the connection to NATS stands.", () =>
    busUse(bus).connected ? 1 : 0,
  );
  metrics.counter(
    "autellix_nats_reconnects_total",
    "Connections to NATS that were made again after a loss.",
    () => busUse(bus).reconnects,
  );
  metrics.counter("autellix_nats_messages_total", "Messages from and to NATS, by kind (in, out).", () => {
    const { inMessages, outMessages } = busUse(bus);
    return both(inMessages, outMessages);
  });
  metrics.counter("autellix_nats_bytes_total", "Bytes from and to NATS, by kind (in, out).", () => {
    const { inBytes, outBytes } = busUse(bus);
    return both(inBytes, outBytes);
  });
}

function both(incoming: number, outgoing: number) {
  return [
    { labels: { kind: "in" }, value: incoming },
    { labels: { kind: "out" }, value: outgoing },
  ];
}
