/**
 * The examples as programs, against a small server that answers as Autellix does.
 */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type ApiServer, startApiServer } from "../../libs/client/test/support/api-server.ts";
import { startTestNats, type TestNats } from "../../libs/client/test/support/nats.ts";
import { type QueuePeer, startQueuePeer } from "../../libs/client/test/support/queue-peer.ts";
import { main as plainNats } from "../plain-nats.ts";
import { main as reactLoop } from "../react-loop.ts";
import { main as singleCall } from "../single-call.ts";
import { main as threads } from "../threads.ts";

let nats: TestNats;
let peer: QueuePeer;

beforeAll(async () => {
  nats = await startTestNats();
  peer = await startQueuePeer(nats.url, "default");
  vi.spyOn(console, "log").mockImplementation(() => {});
});

afterAll(async () => {
  vi.restoreAllMocks();
  await peer?.close();
  await nats?.stop();
});

async function against<T>(answer: (text: string) => string, use: (baseUrl: string, api: ApiServer) => Promise<T>) {
  const api = await startApiServer({ answer: (call) => answer(call.body.messages.at(-1)?.content ?? "") });
  try {
    return await use(api.url.replace(/\/v1$/, ""), api);
  } finally {
    await api.close();
  }
}

test("single-call prints a streamed answer", async () => {
  await against(
    () => "The capital of France is Paris.",
    async (baseUrl) => {
      await singleCall(baseUrl);
    },
  );
});

test("react-loop uses the tool that the model names, and ends with its answer", async () => {
  const answer = await against(
    (text) =>
      text.startsWith("Result: ") ? `Answer: ${text.slice(8)} bags` : "Thinking.\nAction: calculator: 24 * 17",
    (baseUrl) => reactLoop(baseUrl),
  );
  expect(answer).toBe("408 bags");
});

test("react-loop ends within its turns when the model writes noise", async () => {
  await against(
    () => "xq zz",
    async (baseUrl, api) => {
      expect(await reactLoop(baseUrl)).toBeUndefined();
      expect(api.calls).toHaveLength(4);
      expect(api.ended).toHaveLength(1);
    },
  );
});

test("threads forks into three threads and joins them", async () => {
  await against(
    (text) => `about ${text.length}`,
    async (baseUrl, api) => {
      await threads(baseUrl);
      expect(api.calls).toHaveLength(8);
      expect(new Set(api.calls.map((call) => call.thread))).toEqual(
        new Set(["main", "taste", "history", "preparation"]),
      );
      expect(api.calls.at(-1)?.parents).toHaveLength(3);
    },
  );
});

test("plain-nats publishes JSON and reads chunks and the record", async () => {
  const running = plainNats(nats.url, "default");
  const call = await peer.next();
  call.chunk("Paris");
  await call.end("completed", "Paris");
  expect(await running).toMatchObject({ status: "completed", response: { object: "chat.completion" } });
});

test("plain-nats fails when the call fails", async () => {
  const running = plainNats(nats.url, "default");
  const call = await peer.next();
  await Promise.all([call.end("failed", ""), expect(running).rejects.toThrow("failed")]);
});
