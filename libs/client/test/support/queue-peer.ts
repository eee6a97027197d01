/**
 * The other end of the queue, as small as it can be: takes calls of one pool from CALLS, lets the test answer each on
 * its inbox, stores outcomes, answers control requests. Test equipment.
 */
import { connect, type Socket } from "node:net";
import {
  type AnswerDelta,
  type Bus,
  type CallAddress,
  type ChatCompletion,
  type Control,
  consumeCalls,
  controlSchema,
  decodeAs,
  encode,
  encodeOutcome,
  ensurePool,
  fetchCall,
  getBody,
  mergeAnswer,
  openBus,
  parseCallSubject,
  subjects,
  type TerminalStatus,
  textDelta,
  writeOutcomeRecord,
} from "@autellix/protocol";

export interface QueuedCall {
  address: CallAddress;
  body: { messages: { content: string }[] };
  field(name: string): string;
  /** One chunk to the inbox. */
  chunk(content: string | AnswerDelta, more?: object): void;
  /** Stores the outcome, the answer being a text or what these pieces say; with `tell`, the end goes to the inbox. */
  end(status: TerminalStatus, answer: string | readonly AnswerDelta[], options?: { tell?: boolean }): Promise<void>;
}

export interface QueuePeer {
  /** The next call that comes, in order. */
  next(): Promise<QueuedCall>;
  controls: Control[];
  /** Answers to control requests; default: ok. */
  onControl: (message: Control) => void | Promise<void>;
  close(): Promise<void>;
}

export async function startQueuePeer(url: string, pool: string): Promise<QueuePeer> {
  const bus = await openBus({ url, name: "queue-peer" });
  const raw = await openRaw(url);
  await ensurePool(bus, pool);
  const calls: QueuedCall[] = [];
  let wake = () => {};
  const consumer = await consumeCalls(bus, pool, 1);
  const consuming = (async () => {
    for await (const message of consumer) {
      const address = parseCallSubject(message.subject);
      if (!address) throw new Error(`unexpected subject ${message.subject}`);
      const fetched = await fetchCall(bus, address, message.seq);
      if (fetched.kind !== "found") throw new Error("the body is not there");
      const field = (name: string) => message.headers?.get(name) ?? "";
      const bytes = fetched.call.bodyObject ? await getBody(bus, fetched.call.bodyObject) : fetched.call.bytes;
      const body = JSON.parse(Buffer.from(bytes).toString("utf8"));
      calls.push(queuedCall(bus, raw, address, body, field));
      await message.ackAck();
      wake();
    }
  })();
  const peer: QueuePeer = {
    async next() {
      while (calls.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return calls.shift() as QueuedCall;
    },
    controls: [],
    onControl: () => {},
    async close() {
      raw.destroy();
      consumer.stop();
      await consuming;
      await bus.nc.close();
    },
  };
  bus.nc.subscribe(subjects.controlOfPool(pool), {
    callback: (error, message) => {
      if (error) throw error;
      const control = decodeAs(controlSchema, message.data);
      peer.controls.push(control);
      void Promise.resolve(peer.onControl(control)).then(() => message.respond(encode({ ok: true })));
    },
  });
  return peer;
}

function queuedCall(
  bus: Bus,
  raw: Socket,
  address: CallAddress,
  body: QueuedCall["body"],
  field: (name: string) => string,
): QueuedCall {
  const inbox = field("Autellix-Reply");
  const common = { id: `chatcmpl-${address.callId}`, created: 1, model: "m" };
  const usage = {
    prompt_tokens: 1,
    completion_tokens: 2,
    total_tokens: 3,
    prompt_tokens_details: { cached_tokens: 1 },
  };
  return {
    address,
    body,
    field,
    chunk(content, more = {}) {
      const { delta, logprobs = null } = typeof content === "string" ? textDelta(content) : content;
      const choices = [{ index: 0, delta, logprobs, finish_reason: null }];
      bus.nc.publish(inbox, encode({ ...common, object: "chat.completion.chunk", choices, ...more }, "json"));
    },
    async end(status, answer, { tell = true } = {}) {
      const autellix = {
        call_id: address.callId,
        program_id: "p",
        engine: "e1",
        attempts: 1,
        waiting_ms: 1,
        service_ms: 2,
      };
      const merged = mergeAnswer(typeof answer === "string" ? [textDelta(answer)] : answer);
      const reason = merged.message.tool_calls ? "tool_calls" : "stop";
      const response: ChatCompletion = {
        ...common,
        object: "chat.completion",
        choices: [{ index: 0, ...merged, finish_reason: reason }],
        usage,
        autellix,
      };
      const error = {
        code: status === "cancelled" ? ("cancelled" as const) : ("engine_error" as const),
        message: "no",
      };
      const record = {
        call_id: address.callId,
        program_id: "p",
        status,
        usage,
        timings: { waiting_ms: 1, service_ms: 2 },
        ...(status === "completed" ? { response } : { error }),
      };
      const head = { kind: "outcome" as const, status, code: undefined, attempt: 1, epoch: 1, engine: "e1" };
      await writeOutcomeRecord(bus, address, head, encodeOutcome(record, "json"), 0);
      // Chunks go by the other connection: they must be at the server before the end is.
      await bus.nc.flush();
      if (tell) publishEnd(raw, inbox, status);
    },
  };
}

/** A plain socket that speaks just enough NATS to publish: headers need no client library. */
async function openRaw(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  await new Promise<void>((resolve, reject) => {
    socket.once("data", () => resolve());
    socket.once("error", reject);
  });
  socket.on("data", (data) => {
    if (data.toString("utf8").includes("PING")) socket.write("PONG\r\n");
  });
  socket.write('CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n');
  return socket;
}

function publishEnd(socket: Socket, inbox: string, status: TerminalStatus): void {
  const fields = `NATS/1.0\r\nAutellix-End: ${status}\r\n\r\n`;
  const body = '{"error":{"code":"x"}}';
  socket.write(`HPUB ${inbox} ${fields.length} ${fields.length + body.length}\r\n${fields}${body}\r\n`);
}
