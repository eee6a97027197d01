/**
 * A program: one run of an agent, from its first call to its end. The code inside needs no parameter passed along;
 * `autellixFetch` and `submit` find the program through the async context.
 */
import { randomBytes } from "node:crypto";
import { AutellixError } from "@autellix/protocol";
import { currentContext, type Home, type ProgramContext, runInContext, Thread } from "./context.ts";
import { apiBase, openOverHttp } from "./http-home.ts";

export interface ProgramOptions {
  /** Default: `<name>-<random>`. Up to 256 visible ASCII characters. */
  id?: string;
  /**
   * The API (`http://127.0.0.1:8080/v1`) at which the program is opened before `fn` starts. Default: where the first
   * call goes, just before it.
   */
  baseUrl?: string;
  /** Sent when opening at `baseUrl`; calls bring their own key. */
  apiKey?: string;
  /**
   * Told when the end could not be delivered. The result of the program stands; the server ends idle programs by
   * itself. Default: a warning of the process.
   */
  onEndError?: (error: unknown) => void;
}

export interface Program {
  readonly name: string;
  readonly id: string;
  /**
   * Runs `fn` as a branch of the thread that calls it: its first call follows the last call here, and the next call
   * here after it follows its last. Run several with `Promise.all` to fork and join. A name that is taken gets a number.
   */
  thread<T>(name: string, fn: () => Promise<T>): Promise<T>;
  /** Runs each function as a thread of its own, side by side. Fails with the first failure, as `Promise.all` does. */
  parallel<T extends readonly (() => Promise<unknown>)[]>(
    branches: readonly [...T],
  ): Promise<{ -readonly [K in keyof T]: Awaited<ReturnType<T[K]>> }>;
  /** Ends the program before `fn` returns. It takes no more calls; those under way finish. Idempotent. */
  end(): Promise<void>;
}

/** Also the server's limit (`PROGRAM_ID_LENGTH_MAX`). */
const ID_LENGTH_MAX = 256;
const NAME_LENGTH_MAX = 200;
const MAIN_THREAD = "main";

/**
 * Runs `fn` as a program and ends it when `fn` is done. When `fn` fails, calls that are still under way are cancelled:
 * nobody is left to read them.
 *
 * @returns what `fn` returns. @throws what `fn` throws.
 */
export async function program<T>(
  name: string,
  fn: (program: Program) => Promise<T>,
  options: ProgramOptions = {},
): Promise<T> {
  const run = new RunningProgram(name, options);
  const thread = new Thread(MAIN_THREAD);
  return await runInContext({ program: run, thread }, async () => {
    let failed = true;
    try {
      if (options.baseUrl !== undefined) await run.openAtUrl(options.baseUrl, options.apiKey);
      const result = await fn(run);
      failed = false;
      return result;
    } finally {
      await run.finish(failed);
    }
  });
}

class RunningProgram implements Program, ProgramContext {
  readonly name: string;
  readonly id: string;
  readonly #onEndError: (error: unknown) => void;
  readonly #homes = new Map<string, Promise<Home>>();
  /** By name: the last number that was given. */
  readonly #threadCounts = new Map<string, number>([[MAIN_THREAD, 1]]);
  readonly #threadIds = new Set<string>([MAIN_THREAD]);
  #ended: Promise<void> | undefined;

  constructor(name: string, { id, onEndError = warn }: ProgramOptions) {
    this.name = name;
    this.id = id ?? `${toHeaderText(name).slice(0, NAME_LENGTH_MAX)}-${randomBytes(9).toString("base64url")}`;
    // The last two stand for directories in every URL: the program could be opened and never ended.
    if (!/^[\x21-\x7e]+$/.test(this.id) || this.id.length > ID_LENGTH_MAX || this.id === "." || this.id === "..") {
      const message = `a program id is 1 to ${ID_LENGTH_MAX} visible ASCII characters, and neither "." nor ".."`;
      throw new AutellixError("invalid_request", message, { param: "id" });
    }
    this.#onEndError = onEndError;
  }

  async thread<T>(name: string, fn: () => Promise<T>): Promise<T> {
    const parent = currentContext()?.thread;
    if (!parent)
      throw new AutellixError("invalid_request", "thread() works inside the program that it belongs to only");
    const branch = parent.fork(this.#threadId(name));
    try {
      return await runInContext({ program: this, thread: branch }, fn);
    } finally {
      parent.join(branch);
    }
  }

  async parallel<T extends readonly (() => Promise<unknown>)[]>(
    branches: readonly [...T],
  ): Promise<{ -readonly [K in keyof T]: Awaited<ReturnType<T[K]>> }> {
    const results = await Promise.all(branches.map((branch) => this.thread("branch", branch)));
    return results as { -readonly [K in keyof T]: Awaited<ReturnType<T[K]>> };
  }

  async end(): Promise<void> {
    await this.finish(false);
  }

  async openAtUrl(baseUrl: string, apiKey: string | undefined): Promise<void> {
    const base = apiBase(baseUrl);
    const authorization = apiKey === undefined ? undefined : `Bearer ${apiKey}`;
    await this.openAt(base, () => openOverHttp(fetch, base, authorization, this.id));
  }

  async openAt(place: string, open: () => Promise<Home>): Promise<void> {
    if (this.#ended) throw new AutellixError("program_ended", `the program ${this.id} has ended`);
    let home = this.#homes.get(place);
    if (!home) {
      home = open();
      this.#homes.set(place, home);
      home.catch(() => this.#homes.delete(place)); // this caller gets the error; the next one tries again
    }
    await home;
  }

  /** Ends the program wherever it was opened. A failure is told, never thrown: the program's own result stands. */
  finish(cancel: boolean): Promise<void> {
    this.#ended ??= Promise.all(
      [...this.#homes.values()].map(async (opened) => {
        try {
          await (await opened).end(cancel);
        } catch (error) {
          this.#onEndError(error);
        }
      }),
    ).then(() => undefined);
    return this.#ended;
  }

  #threadId(name: string): string {
    const base = toHeaderText(name).slice(0, NAME_LENGTH_MAX);
    let count = this.#threadCounts.get(base) ?? 0;
    let id: string;
    do {
      count++;
      id = count === 1 ? base : `${base}-${count}`;
    } while (this.#threadIds.has(id));
    this.#threadCounts.set(base, count);
    this.#threadIds.add(id);
    return id;
  }
}

/** Ids travel in headers, which hold visible ASCII only. */
function toHeaderText(text: string): string {
  return text.replace(/[^\x21-\x7e]/g, "_") || "_";
}

function warn(error: unknown): void {
  const reason = error instanceof Error ? error.message : String(error);
  process.emitWarning(`the program's end was not delivered: ${reason}`, "AutellixWarning");
}
