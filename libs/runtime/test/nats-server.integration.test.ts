import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { openBus } from "@autellix/protocol";
import { afterEach, describe, expect, it } from "vitest";
import { freePort, startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { obtainNatsServer, startNatsServer } from "../src/index.ts";
import { isAlive, tempFolder } from "./support.ts";

describe("startNatsServer", () => {
  let nats: TestNats | undefined;
  afterEach(async () => {
    await nats?.stop();
    nats = undefined;
  });

  it("runs a JetStream that survives kill -9 and a restart on the same port", async () => {
    nats = await startTestNats();
    const before = await openBus({ url: nats.url, name: "test" });
    await before.jsm.streams.add({ name: "KEPT", subjects: ["kept.>"] });
    await before.js.publish("kept.one", "payload");
    await nats.kill9();
    await nats.restart();
    const after = await openBus({ url: nats.url, name: "test" });
    expect((await after.jsm.streams.info("KEPT")).state.messages).toBe(1);
    await before.nc.close();
    await after.nc.close();
  });

  it("names the busy port and the option that changes it", async () => {
    const port = await freePort();
    const other = createServer().listen(port, "127.0.0.1");
    const dataDir = await tempFolder();
    const { path: bin } = await obtainNatsServer({ env: process.env });
    await expect(startNatsServer({ bin, port, dataDir, env: process.env })).rejects.toThrow(
      `port ${port} of nats-server is in use; stop what uses it or choose another with --nats-port`,
    );
    other.close();
  });

  it("says why it could not start, in one line", async () => {
    const dataDir = await tempFolder();
    await writeFile(join(dataDir, "jetstream"), "a file where the store should be");
    const { path: bin } = await obtainNatsServer({ env: process.env });
    const starting = startNatsServer({ bin, port: await freePort(), dataDir, env: process.env });
    await expect(starting).rejects.toThrow(/^nats-server could not start: .*JetStream.*$/i);
  });

  it("leaves no process behind after stop, and none after it was aborted while it starts", async () => {
    const dataDir = await tempFolder();
    const { path: bin } = await obtainNatsServer({ env: process.env });
    const options = { bin, port: await freePort(), dataDir, env: process.env };
    const server = await startNatsServer(options);
    await server.stop();
    expect(isAlive(-server.groupId)).toBe(false);
    await expect(startNatsServer({ ...options, signal: AbortSignal.abort(new Error("Ctrl-C")) })).rejects.toThrow(
      "Ctrl-C",
    );
  });
});
