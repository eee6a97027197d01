/** Films for pages: made in threads of their own, a few at once, in bounded time and memory. Recordings: which there are. */
import { randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Worker } from "node:worker_threads";
import { policies } from "@autellix/core";
import { presets } from "@autellix/engines/cost";
import { InputLogError, readInputLog } from "@autellix/protocol/input-log";
import { linesOf } from "@autellix/protocol/lines";
import { sendSignal } from "@autellix/runtime";
import { type WorkloadName, workloadNames } from "@autellix/simulation";
import type { FilmAsk, Recording, ReplayOptions } from "../shared/film.ts";
import { DEMO } from "./make-film.ts";
import type { WorkerAnswer, WorkerAsk } from "./worker.ts";

/** Films that are made at once, and that wait for it. */
export const FILMS_AT_ONCE_MAX = 2;
export const FILMS_WAITING_MAX = 8;
/** A film that takes longer is of no use on a page. */
export const FILM_MS_MAX = 60_000;
const FILM_MEMORY_MB_MAX = 1_024;
/** Of one uploaded recording, and how many are kept: the oldest goes. */
export const UPLOAD_BYTES_MAX = 128 * 1024 * 1024;
export const UPLOADS_MAX = 4;
/** The newest are offered. */
export const RECORDINGS_MAX = 50;

const UPLOADS_PREFIX = "autellix-dashboard-";

export class StudioError extends Error {
  override readonly name = "StudioError";
  readonly code: string;
  /** Of the HTTP answer. */
  readonly status: number;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const WORKER = new URL("./worker.ts", import.meta.url);

const aboutWorkloads: Record<WorkloadName, string> = {
  sharegpt: "chats: few calls, long answers",
  bfcl: "agents that use tools: many short answers",
  lats: "tree search: hundreds of parallel calls",
  mixed: "chats, tool agents and tree search in equal parts",
  swe: "coding agents of similar length: where plas loses",
  "deep-research": "research agents with sub-agents",
  agentx: "today's agents: long contexts, short answers",
  "one-call": "programs of one call each",
  equal: "programs that are all alike",
};

const aboutPolicies: Partial<Record<string, string>> = {
  fcfs: "the call that came first",
  mlfq: "the call that has had the least service; it knows no programs",
  "program-fcfs": "the calls of the program that came first",
  "round-robin": "every call for a turn",
  plas: "the program that has had the least service",
  atlas: "the program whose longest chain of service is the shortest",
  "atlas-dag": "the same, by the parents that calls name",
  "plas-in-order": "the program that has had the least service; among equals the one that came first",
  "atlas-in-order": "the program whose longest chain is the shortest; among equals the one that came first",
  "las-decay": "the program that has had the fewest tokens lately",
};

export class Studio {
  private readonly folders: readonly string[];
  private readonly uploads: Recording[] = [];
  private uploadFolder: string | undefined;
  private making: Promise<string> | undefined;
  private readonly workers = new Set<Worker>();
  private waiting: (() => void)[] = [];
  private running = 0;

  /** @param folders of recordings; of equal names the first one's counts. */
  constructor(folders: readonly string[]) {
    this.folders = folders;
  }

  async options(): Promise<ReplayOptions> {
    return {
      workloads: [
        { name: DEMO, about: "short programs arrive while long ones run: npm run demo:policies" },
        ...workloadNames.map((name) => ({ name, about: aboutWorkloads[name] })),
      ],
      policies: Object.keys(policies).map((name) => ({ name, about: aboutPolicies[name] ?? "" })),
      presets: Object.keys(presets).filter((name) => name !== "zero"),
      recordings: [...this.uploads, ...(await this.recorded()).map(({ recording }) => recording)],
    };
  }

  /** Removes what a dashboard of this machine left that was killed. */
  static async sweep(): Promise<void> {
    for (const name of await readdir(tmpdir())) {
      const pid = Number(new RegExp(`^${UPLOADS_PREFIX}(\\d+)-`).exec(name)?.[1] ?? 0);
      if (pid > 0 && !sendSignal(pid, 0)) await rm(join(tmpdir(), name), { recursive: true, force: true });
    }
  }

  /** @returns JSON of a film. @throws StudioError */
  async film(ask: FilmAsk, signal: AbortSignal): Promise<Uint8Array> {
    const file = ask.kind === "workload" ? undefined : await this.fileOf(ask.recording);
    await this.turn(signal);
    try {
      return await this.make({ ask, file }, signal);
    } finally {
      this.running--;
      this.waiting.shift()?.();
    }
  }

  /** Keeps an input log for as long as this process lives. @throws StudioError for what is none. */
  async upload(name: string, body: Readable): Promise<Recording> {
    this.making ??= mkdtemp(join(tmpdir(), `${UPLOADS_PREFIX}${process.pid}-`));
    const folder = await this.making;
    this.uploadFolder = folder;
    const id = `${name.replace(/[^A-Za-z0-9._-]/g, "_").slice(0, 80) || "upload"}-${randomUUID().slice(0, 8)}`;
    const path = join(folder, id);
    try {
      await pipeline(body, limited, createWriteStream(path));
      const { policy, pool } = await headerOf(path);
      const { size, mtimeMs } = await stat(path);
      const recording: Recording = { name: id, kind: "uploaded", policy, pool, bytes: size, modifiedAtMs: mtimeMs };
      this.uploads.unshift(recording);
      for (const old of this.uploads.splice(UPLOADS_MAX)) await rm(join(folder, old.name), { force: true });
      return recording;
    } catch (error) {
      await rm(path, { force: true });
      if (error instanceof InputLogError) throw new StudioError(400, error.code, error.message);
      throw error;
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.workers].map((worker) => worker.terminate()));
    if (this.uploadFolder !== undefined) await rm(this.uploadFolder, { recursive: true, force: true });
  }

  private async turn(signal: AbortSignal): Promise<void> {
    while (this.running >= FILMS_AT_ONCE_MAX) {
      if (this.waiting.length >= FILMS_WAITING_MAX)
        throw new StudioError(503, "busy", "other replays are being made; try again in a moment");
      await this.woken(signal);
      if (!signal.aborted) continue;
      // The turn that it was woken for is the next one's.
      if (this.running < FILMS_AT_ONCE_MAX) this.waiting.shift()?.();
      throw new StudioError(499, "aborted", "nobody waits for it any more");
    }
    this.running++;
  }

  /** @returns when a film has ended, or nobody waits any more: then it is in the row no longer. */
  private async woken(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const leave = () => {
      this.waiting = this.waiting.filter((other) => other !== resolve);
      resolve();
    };
    this.waiting.push(resolve);
    signal.addEventListener("abort", leave, { once: true });
    await promise;
    signal.removeEventListener("abort", leave);
  }

  private make(workerData: WorkerAsk, signal: AbortSignal): Promise<Uint8Array> {
    const worker = new Worker(WORKER, { workerData, resourceLimits: { maxOldGenerationSizeMb: FILM_MEMORY_MB_MAX } });
    this.workers.add(worker);
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const tooMuch = (why: string) =>
      reject(new StudioError(422, "too_large", `the run ${why}; choose fewer programs or a shorter recording`));
    const timer = setTimeout(() => tooMuch(`takes more than ${FILM_MS_MAX / 1_000} s`), FILM_MS_MAX);
    const onAbort = () => reject(new StudioError(499, "aborted", "nobody waits for it any more"));
    signal.addEventListener("abort", onAbort, { once: true });
    worker.once("message", (said: WorkerAnswer) => {
      if (said.kind === "film") resolve(said.json);
      else reject(new StudioError(400, said.code, said.message));
    });
    worker.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ERR_WORKER_OUT_OF_MEMORY") tooMuch("needs too much memory");
      else reject(error);
    });
    worker.once("exit", () => reject(new Error("the thread ended without an answer")));
    return promise.finally(async () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      this.workers.delete(worker);
      await worker.terminate();
    });
  }

  /** The newest; what is no input log is not among them. */
  private async recorded(): Promise<{ path: string; recording: Recording }[]> {
    const found = await Promise.all(
      this.folders.map(async (folder) => {
        const names = await readdir(folder).catch(() => []); // it is made when something is recorded
        return names.filter((name) => name.endsWith(".jsonl")).map((name) => ({ name, path: join(folder, name) }));
      }),
    );
    const byName = new Map(
      found
        .flat()
        .reverse()
        .map((file) => [file.name, file]),
    );
    const files = await Promise.all(
      [...byName.values()].map(async (file) => ({ ...file, ...(await sizeOf(file.path)) })),
    );
    files.sort((a, b) => b.modifiedAtMs - a.modifiedAtMs);
    const all: { path: string; recording: Recording }[] = [];
    for (const { path, ...file } of files.slice(0, RECORDINGS_MAX)) {
      const header = await headerOf(path).catch(() => undefined);
      if (header) all.push({ path, recording: { ...file, ...header, kind: "recorded" } });
    }
    return all;
  }

  /** Only what was offered: a page cannot name any file. */
  private async fileOf(name: string): Promise<string> {
    if (this.uploadFolder !== undefined && this.uploads.some((upload) => upload.name === name))
      return join(this.uploadFolder, name);
    const found = (await this.recorded()).find(({ recording }) => recording.name === name);
    if (!found) throw new StudioError(404, "not_found", `there is no recording ${name}`);
    return found.path;
  }
}

async function* limited(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > UPLOAD_BYTES_MAX)
      throw new StudioError(413, "too_large", `a recording may have ${UPLOAD_BYTES_MAX / 1024 / 1024} MiB`);
    yield chunk;
  }
}

async function sizeOf(path: string): Promise<{ bytes: number; modifiedAtMs: number }> {
  // It may be gone by now.
  const found = await stat(path).catch(() => undefined);
  return { bytes: found?.size ?? 0, modifiedAtMs: found?.mtimeMs ?? 0 };
}

async function headerOf(path: string): Promise<{ policy: string; pool: string }> {
  const input = createReadStream(path, "utf8");
  try {
    for await (const item of readInputLog(linesOf(input))) {
      if (item.kind === "header") return { policy: item.header.config.policy, pool: item.header.pool };
    }
  } finally {
    input.destroy();
  }
  throw new InputLogError("not_an_input_log", 1, "the file is empty");
}
