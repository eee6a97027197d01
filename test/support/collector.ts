/** Between the services and a collector: hands everything on, and keeps what it saw. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface Wiretap {
  url: string;
  /** All that was sent, byte by byte. */
  bytes(): Buffer;
  stop(): Promise<void>;
}

/** @param target where it is handed on to; without one it is taken and dropped. */
export async function startWiretap(target?: string): Promise<Wiretap> {
  const seen: Buffer[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const body = Buffer.concat(parts);
      seen.push(body);
      const answer = (status: number) => response.writeHead(status).end();
      if (target === undefined) {
        answer(200);
        return;
      }
      const headers = { "content-type": request.headers["content-type"] ?? "" };
      fetch(`${target}${request.url}`, { method: "POST", headers, body }).then(
        ({ status }) => answer(status),
        () => answer(502),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bytes: () => Buffer.concat(seen),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
