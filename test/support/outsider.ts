/** Drives `test/e2e/outsider.py`: a NATS client that is not ours, in another language, by nats-py. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { cacheDir, runChild } from "@autellix/runtime";

const NATS_PY = "nats-py==2.16.0";
const INSTALL_MS_MAX = 60_000;
const SCRIPT = resolve(import.meta.dirname, "../e2e/outsider.py");

export interface InboxMessage {
  headers: Record<string, string>;
  text: string;
}

export interface StoredMessage extends InboxMessage {
  seq: number;
}

/** What the server answers to a publish. */
export interface Ack {
  seq?: number;
  error?: { description: string };
}

export interface Outsider {
  /** Opens an inbox that collects. @returns its subject. */
  listen(): Promise<string>;
  /** @returns the inbox's messages up to the one marked as the last, or up to `count`. */
  read(inbox: string, count?: number): Promise<InboxMessage[]>;
  /** @returns how many messages wait unread in the inbox. */
  unread(inbox: string): Promise<number>;
  /** Bytes as they are, a text as it is, anything else as JSON. */
  publish(subject: string, body: unknown, headers?: Record<string, string>): Promise<Ack>;
  /** Publishes and waits for no answer. */
  send(subject: string, body: unknown): Promise<void>;
  /** @returns the answer, which must be JSON. */
  request(subject: string, body: unknown): Promise<unknown>;
  /** @returns the last message on the subject, undefined when there is none. */
  record(stream: string, subject: string): Promise<StoredMessage | undefined>;
  close(): Promise<void>;
}

/** nats-py, kept in the cache folder. @returns the folder to import from. @throws when Python or pip cannot give it. */
export async function obtainNatsPy(): Promise<string> {
  const cache = cacheDir(process.env);
  const folder = join(cache, "python", NATS_PY.replace("==", "-"));
  const signal = AbortSignal.timeout(INSTALL_MS_MAX);
  if (!existsSync(folder)) {
    await mkdir(join(cache, "python"), { recursive: true });
    const temp = await mkdtemp(join(cache, "python", "temp-"));
    try {
      const args = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"];
      await runChild("python3", [...args, "--target", temp, NATS_PY], { env: process.env, signal });
      await rename(temp, folder);
    } finally {
      await rm(temp, { recursive: true, force: true });
    }
  }
  await runChild("python3", ["-c", "import nats"], { env: { ...process.env, PYTHONPATH: folder }, signal });
  return folder;
}

/** @param natsPy as `obtainNatsPy` gives it. */
export function startOutsider(natsUrl: string, natsPy: string): Outsider {
  const child = spawn("python3", [SCRIPT, natsUrl], {
    env: { ...process.env, PYTHONPATH: natsPy },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  const exited = new Promise<void>((done) => {
    child.once("exit", () => {
      for (const { reject } of waiting.values()) reject(new Error("the outsider has ended"));
      done();
    });
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { id, ok, error } = JSON.parse(line) as { id: number; ok?: unknown; error?: string };
    const command = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) command?.resolve(ok);
    else command?.reject(new Error(error));
  });
  let lastId = 0;
  const run = <T>(op: string, fields: object = {}) => {
    const id = ++lastId;
    return new Promise<T>((resolve, reject) => {
      waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      child.stdin.write(`${JSON.stringify({ id, op, ...fields })}\n`);
    });
  };
  return {
    listen: () => run("listen"),
    read: (inbox, count) => run("read", { inbox, ...(count === undefined ? {} : { count }) }),
    unread: (inbox) => run("unread", { inbox }),
    publish: (subject, body, headers) => run("publish", { subject, body: base64(body), headers }),
    send: (subject, body) => run("send", { subject, body: base64(body) }),
    request: async (subject, body) => JSON.parse(await run<string>("request", { subject, body: base64(body) })),
    record: async (stream, subject) => (await run<StoredMessage | null>("record", { stream, subject })) ?? undefined,
    async close() {
      child.stdin.end();
      await exited;
    },
  };
}

function base64(body: unknown): string {
  if (body instanceof Uint8Array) return Buffer.from(body).toString("base64");
  return Buffer.from(typeof body === "string" ? body : JSON.stringify(body)).toString("base64");
}
