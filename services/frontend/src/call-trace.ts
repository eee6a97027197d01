/**
 * The file of a call trace (off unless the operator names one): a line for each call that has ended. Recording never
 * holds up a call and never ends one: lines wait in the stream's buffer, and what cannot be written ends the recording
 * with a line in the log.
 */
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname, extname } from "node:path";
import { finished } from "node:stream/promises";
import {
  CALL_TRACE_VERSION,
  formatTraceLine,
  opaqueName,
  type TracedCall,
  type TraceHeader,
} from "@autellix/protocol/call-trace";
import type { Logger } from "@autellix/runtime";
import type { EndedFields, TraceFields } from "./events.ts";

/** Bytes that wait for the disk; a disk that is slower than the calls ends the recording. */
const WAITING_BYTES_MAX = 16 << 20;
/** Files of one name: what was recorded earlier is never overwritten. */
const COPIES_MAX = 1_000;
/** Times are written in thousandths of a ms. */
const PER_MS = 1_000;

export interface CallTraceOptions {
  file: string;
  /** Size of the file; the recording ends before it is exceeded. */
  bytesMax: number;
  /** `opaque`: programs, threads and calls by hashes. `plain`: as clients call them. */
  names: "opaque" | "plain";
  log: Logger;
}

/** `trace.jsonl`, then `trace.2.jsonl`, … */
export function copyPath(file: string, copy: number): string {
  if (copy === 1) return file;
  const extension = extname(file);
  return `${file.slice(0, file.length - extension.length)}.${copy}${extension}`;
}

export class CallTrace {
  readonly #options: CallTraceOptions;
  readonly #stream: ReturnType<FileHandle["createWriteStream"]>;
  /** The monotonic clock at the header's time of day. */
  readonly #startedMs = performance.now();
  readonly #done: Promise<void>;
  #isOpen = true;
  #bytes = 0;

  /** @returns undefined, with a line in the log, when the file cannot be made. */
  static async open(options: CallTraceOptions): Promise<CallTrace | undefined> {
    const { file, log } = options;
    try {
      await mkdir(dirname(file), { recursive: true });
      for (let copy = 1; ; copy++) {
        const path = copyPath(file, copy);
        const handle = await open(path, "wx").catch((error: NodeJS.ErrnoException) => {
          if (error.code !== "EEXIST" || copy >= COPIES_MAX) throw error;
          return undefined;
        });
        if (!handle) continue;
        log.info({ path }, "recording calls");
        return new CallTrace(handle, options);
      }
    } catch (error) {
      log.warn({ err: error, file }, "call trace not opened: calls are not recorded");
      return undefined;
    }
  }

  private constructor(handle: FileHandle, options: CallTraceOptions) {
    this.#options = options;
    this.#stream = handle.createWriteStream();
    this.#done = finished(this.#stream).catch((error: unknown) => {
      this.#isOpen = false;
      options.log.warn({ err: error }, "call trace not written: recording ends");
    });
    this.#write({ trace: "autellix-calls", version: CALL_TRACE_VERSION, startedAtMs: Date.now() });
  }

  record(fields: EndedFields, trace: TraceFields): void {
    if (this.#isOpen) this.#write(this.#lineOf(fields, trace));
  }

  /** Writes what waits and closes the file. Never throws. */
  async close(): Promise<void> {
    this.#isOpen = false;
    this.#stream.end();
    await this.#done;
  }

  #lineOf({ tenant, call, program, model, status }: EndedFields, trace: TraceFields): TracedCall {
    const { thread, parents, waitingMs, serviceMs, promptTokens, cachedTokens, completionTokens } = trace;
    const isPlain = this.#options.names === "plain";
    const name = (kind: string, ...ids: string[]) => (isPlain ? ids.join("/") : opaqueName(kind, tenant, ...ids));
    return {
      call: name("call", call),
      program: isPlain ? `${tenant}/${program}` : name("program", program),
      ...(thread === undefined ? {} : { thread: isPlain ? thread : name("thread", program, thread) }),
      ...(parents.length === 0 ? {} : { parents: parents.map((parent) => name("call", parent)) }),
      model,
      status,
      arrivedAtMs: this.#since(trace.arrivedMs),
      endedAtMs: this.#since(trace.endedMs),
      ...(waitingMs === undefined ? {} : { waitingMs }),
      ...(serviceMs === undefined ? {} : { serviceMs }),
      promptTokens,
      ...(cachedTokens === undefined ? {} : { cachedTokens }),
      completionTokens,
    };
  }

  #since(atMs: number): number {
    return Math.max(0, Math.round((atMs - this.#startedMs) * PER_MS) / PER_MS);
  }

  #write(line: TraceHeader | TracedCall): void {
    const { bytesMax } = this.#options;
    const bytes = Buffer.from(formatTraceLine(line));
    if (this.#bytes + bytes.length > bytesMax)
      this.#stop({ traceBytesMax: bytesMax }, "call trace is full: recording ends");
    else if (this.#stream.writableLength + bytes.length > WAITING_BYTES_MAX)
      this.#stop({ waitingBytesMax: WAITING_BYTES_MAX }, "call trace's disk is too slow: recording ends");
    else {
      this.#bytes += bytes.length;
      this.#stream.write(bytes);
    }
  }

  #stop(fields: Record<string, number>, text: string): void {
    this.#options.log.warn(fields, text);
    void this.close();
  }
}
