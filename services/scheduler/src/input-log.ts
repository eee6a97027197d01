/**
 * The file of an input log. Recording never holds up scheduling and never ends it: lines wait in a bounded buffer, are
 * written beside everything else, and what cannot be written ends the recording with a line in the service's own log.
 */
import { writeSync } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname, extname } from "node:path";
import { formatInputLog } from "@autellix/protocol/input-log";
import type { Logger } from "@autellix/runtime";

const FLUSH_MS = 100;
/** Bytes that wait for the disk; a disk that is slower than the inputs ends the recording. */
const WAITING_BYTES_MAX = 16 * 1024 * 1024;
/** Room for the last line, which says why the recording ended. */
const END_BYTES_MAX = 128;
/** Files of one name and epoch: an epoch comes again when the queue's folder was removed. */
const NAMES_MAX = 100;

export interface InputLogOptions {
  /** Where to, see `inputLogPath`. */
  file: string;
  pool: string;
  epoch: number;
  /** Size of the file; the recording ends before it is exceeded. */
  bytesMax: number;
  log: Logger;
}

/** `inputs.jsonl` → `inputs.<pool>.<epoch>.jsonl`: each leadership writes a file of its own. */
export function inputLogPath(file: string, pool: string, epoch: number, copy = 1): string {
  const extension = extname(file);
  const stem = file.slice(0, file.length - extension.length);
  return `${stem}.${pool}.${epoch}${copy === 1 ? "" : `.${copy}`}${extension}`;
}

export class InputLogFile {
  readonly #options: InputLogOptions;
  #file: FileHandle | undefined;
  /** `closing`: no more lines, what waits is written. */
  #state: "open" | "closing" | "closed" = "open";
  /** Lines that no write has taken yet. */
  #lines: string[] = [];
  #linesBytes = 0;
  /** Bytes that a write is putting at `#written`. */
  #inFlight: Buffer | undefined;
  #written = 0;
  #timer: NodeJS.Timeout | undefined;
  /** What the file is busy with, one thing at a time. */
  #busy: Promise<void>;

  /** Opens the file in the background. */
  constructor(options: InputLogOptions) {
    this.#options = options;
    this.#busy = this.#open();
  }

  /** @returns false when the recording is over, and the line is not taken. */
  write(line: string): boolean {
    if (this.#state !== "open") return false;
    const { bytesMax } = this.#options;
    const lineBytes = Buffer.byteLength(line) + 1;
    const waiting = this.#linesBytes + lineBytes;
    if (this.#written + (this.#inFlight?.length ?? 0) + waiting + END_BYTES_MAX > bytesMax) {
      this.#stop({ inputLogBytesMax: bytesMax }, "input log is full: recording ends");
    } else if (waiting > WAITING_BYTES_MAX) {
      this.#stop({ waitingBytesMax: WAITING_BYTES_MAX }, "input log's disk is too slow: recording ends");
    } else {
      this.#take(line, lineBytes);
      this.#timer ??= setTimeout(() => this.#flush(), FLUSH_MS).unref();
    }
    return this.#state === "open";
  }

  /** Writes what waits, why the recording ends, and closes the file. Never throws. */
  async close(reason: string): Promise<void> {
    this.#last(reason);
    // One write may be on its way, and what came meanwhile needs another.
    await this.#busy;
    this.#flush();
    await this.#busy;
    await this.#shut();
  }

  /** The same before it returns: the process is about to end. Never throws. */
  closeNow(reason: string): void {
    if (this.#state === "closed") return;
    this.#last(reason);
    this.#state = "closed";
    try {
      if (!this.#file) throw new Error("the file is not open yet");
      // A write on its way is done again at its place: whichever comes last puts the same bytes there.
      const bytes = Buffer.concat([this.#inFlight ?? Buffer.alloc(0), Buffer.from(this.#lines.join(""))]);
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(this.#file.fd, bytes, done, bytes.length - done, this.#written + done);
      }
    } catch (error) {
      this.#options.log.warn({ err: error }, "end of the input log is lost");
    }
  }

  /** Takes the last line on, unless it is there. */
  #last(reason: string): void {
    if (this.#state === "open") {
      const line = formatInputLog({ end: reason });
      this.#take(line, Buffer.byteLength(line) + 1);
      this.#state = "closing";
    }
    clearTimeout(this.#timer);
  }

  #take(line: string, lineBytes: number): void {
    this.#lines.push(line, "\n");
    this.#linesBytes += lineBytes;
  }

  async #open(): Promise<void> {
    const { file, pool, epoch, log } = this.#options;
    try {
      await mkdir(dirname(file), { recursive: true });
      for (let copy = 1; !this.#file; copy++) {
        const path = inputLogPath(file, pool, epoch, copy);
        // What was recorded earlier is never overwritten.
        this.#file = await open(path, "wx").catch((error: NodeJS.ErrnoException) => {
          if (error.code !== "EEXIST" || copy >= NAMES_MAX) throw error;
          return undefined;
        });
        if (this.#file) log.info({ path, epoch }, "recording inputs");
      }
    } catch (error) {
      await this.#fail(error);
    }
  }

  /** Begins to write what waits; a write that is on its way looks again when it is done. */
  #flush(): void {
    this.#timer = undefined;
    if (this.#inFlight || this.#lines.length === 0 || this.#state === "closed") return;
    const bytes = Buffer.from(this.#lines.join(""));
    this.#lines = [];
    this.#linesBytes = 0;
    this.#inFlight = bytes;
    this.#busy = this.#busy.then(() => this.#put(bytes));
  }

  async #put(bytes: Buffer): Promise<void> {
    try {
      for (let done = 0; done < bytes.length && this.#file && this.#state !== "closed"; ) {
        const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#written + done);
        done += bytesWritten;
      }
    } catch (error) {
      await this.#fail(error);
    }
    if (this.#state === "closed") return;
    this.#written += bytes.length;
    this.#inFlight = undefined;
    if (this.#state === "open") this.#flush();
  }

  #stop(fields: Record<string, unknown>, text: string): void {
    this.#options.log.warn({ ...fields, epoch: this.#options.epoch }, text);
    void this.close(text);
  }

  async #fail(error: unknown): Promise<void> {
    if (this.#state !== "closed") this.#options.log.warn({ err: error }, "input log not written: recording ends");
    await this.#shut();
  }

  async #shut(): Promise<void> {
    const file = this.#file;
    this.#state = "closed";
    this.#file = undefined;
    this.#lines = [];
    clearTimeout(this.#timer);
    // All bytes have been handed over: an error here loses none that could be kept.
    await file?.close().catch((error: unknown) => this.#options.log.warn({ err: error }, "input log not closed"));
  }
}
