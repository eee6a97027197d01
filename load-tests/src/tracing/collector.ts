/**
 * A collector that takes all spans and keeps none, as a process of its own: what a real one does with them is not ours.
 * Says its port when it listens, and what it took when it is asked.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface Taken {
  messages: number;
  bytes: number;
}

const taken: Taken = { messages: 0, bytes: 0 };
const server = createServer((request, response) => {
  taken.messages++;
  request.on("data", (part: Buffer) => {
    taken.bytes += part.length;
  });
  request.on("end", () => response.writeHead(200, { "content-type": "application/x-protobuf" }).end());
});
server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as AddressInfo).port }));
process.on("message", () => process.send?.(taken));
process.on("disconnect", () => process.exit());
