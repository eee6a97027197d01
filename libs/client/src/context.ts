/**
 * Which program and thread the running code belongs to. A thread is a branch of the program; its `heads` are the
 * calls that nothing has followed yet. The next call names them as its parents, and so the graph of calls is known
 * without the user drawing it: a fork copies the heads to each branch, a join gathers the branches' heads.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { PARENT_CALLS_MAX } from "@autellix/protocol";

/** Where a program was opened: ending the program ends it there. */
export interface Home {
  /** @param cancel also cancel the program's calls that have not ended. */
  end(cancel: boolean): Promise<void>;
}

/** A program as the functions that make calls see it. */
export interface ProgramContext {
  readonly id: string;
  /**
   * Opens the program at a place once, before its first call there.
   * @throws AutellixError `program_ended` after the end; whatever `open` throws, and then the next call tries again.
   */
  openAt(place: string, open: () => Promise<Home>): Promise<void>;
}

export class Thread {
  readonly id: string;
  readonly #inherited: readonly string[];
  #heads: Set<string>;
  #called = false;

  constructor(id: string, inherited: readonly string[] = []) {
    this.id = id;
    this.#inherited = inherited;
    this.#heads = new Set(inherited);
  }

  /** Ids of the calls that the next call follows. */
  get heads(): string[] {
    return [...this.#heads];
  }

  /**
   * A call was answered that follows `heads`, as they were when it was made: all of them, also where it could name some
   * only. Calls made side by side in one thread all become heads.
   */
  follow(heads: readonly string[], callId: string): void {
    for (const head of heads) this.#heads.delete(head);
    this.#heads.add(callId);
    this.#called = true;
  }

  fork(id: string): Thread {
    return new Thread(id, this.heads);
  }

  /** A branch that made no call leaves the heads as they are: they would be named beside their own descendants. */
  join(branch: Thread): void {
    if (!branch.#called) return;
    for (const head of branch.#inherited) this.#heads.delete(head);
    for (const head of branch.#heads) this.#heads.add(head);
    this.#called = true;
  }
}

/** Those of a thread's heads that a call names as its parents: after a wide fork the ones that ended last. */
export function parentsAmong(heads: readonly string[]): readonly string[] {
  return heads.slice(-PARENT_CALLS_MAX);
}

export interface Context {
  program: ProgramContext;
  thread: Thread;
}

const storage = new AsyncLocalStorage<Context>();

/** The program and thread of the code that asks, undefined outside of any. */
export function currentContext(): Context | undefined {
  return storage.getStore();
}

export function runInContext<T>(context: Context, fn: () => T): T {
  return storage.run(context, fn);
}
