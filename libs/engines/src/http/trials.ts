/**
 * Which call brings the server down (design §4, Poison). Every call that had a request on it when it went down is a
 * suspect. Suspects' requests are begun again one at a time, most suspected first, and no others beside them: the first
 * one has the server for itself. A token behind those that it had at the crash clears a suspect.
 *
 * An agent whose server is down for long leaves its pool, and its calls go to others: each server remembers the suspects
 * that left it, so that one which kills them all comes to its end on some.
 *
 * What cannot be told: a server that dies by itself just then; and a call that gets a little further each time is
 * cleared each time, so only its answer's length ends it.
 */
import type { HttpCall } from "./call.ts";

/** Suspects that are remembered when they leave, the last ones. */
const SUSPECTS_MAX = 1_000;

interface Waiting {
  call: HttpCall;
  begin: () => void;
}

export class Trials {
  /** Their streams broke: whether the server went down is being looked at, or they pause after it did. */
  readonly #broken = new Set<HttpCall>();
  readonly #waiting = new Map<HttpCall, Waiting>();
  /** By their keys: how often the server went down under calls that left it. */
  readonly #suspects = new Map<string, Pick<HttpCall, "crashes" | "crashedTokens">>();
  /** The suspect that shows now whether it was the one. */
  #tried: HttpCall | undefined;

  /** A call is opened, perhaps again. */
  recall(call: HttpCall): void {
    Object.assign(call, this.#suspects.get(call.key));
  }

  /** Resolves when the call's request may begin. */
  turn(call: HttpCall): Promise<void> {
    this.left(call);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(call, { call, begin: resolve });
    this.#beginNext();
    return promise;
  }

  /** Its request broke. Until it is known why, no other begins: it may be what the next server dies of, too. */
  broke(call: HttpCall): void {
    this.#broken.add(call);
    if (this.#tried === call) this.#tried = undefined;
  }

  /** The server did not go down. */
  acquitted(call: HttpCall): void {
    this.#broken.delete(call);
    this.#beginNext();
  }

  /** Its stream has brought a token: where prompts are what kills a server, it is not this one. */
  moved(call: HttpCall): void {
    if (call.crashes > 0 && call.answer.tokens > call.crashedTokens) call.crashes = 0;
    // Suspected again, it may be its answer: it has the server for itself until that is longer than it ever was.
    if (this.#tried !== call || call.crashes > 1) return;
    this.#tried = undefined;
    this.#beginNext();
  }

  /** Nothing more comes of its request, and none waits. */
  left(call: HttpCall): void {
    this.#broken.delete(call);
    this.#waiting.delete(call);
    if (this.#tried === call) this.#tried = undefined;
    this.#remember(call);
    this.#beginNext();
  }

  #remember({ key, ended, crashes, crashedTokens }: HttpCall): void {
    this.#suspects.delete(key);
    if (ended || crashes === 0) return;
    this.#suspects.set(key, { crashes, crashedTokens });
    const [oldest] = this.#suspects.keys();
    if (this.#suspects.size > SUSPECTS_MAX && oldest !== undefined) this.#suspects.delete(oldest);
  }

  #beginNext(): void {
    if (this.#tried !== undefined || this.#broken.size > 0) return;
    let most: Waiting | undefined;
    for (const one of this.#waiting.values()) if (one.call.crashes > (most?.call.crashes ?? 0)) most = one;
    this.#tried = most?.call;
    for (const { call, begin } of most === undefined ? [...this.#waiting.values()] : [most]) {
      this.#waiting.delete(call);
      begin();
    }
  }
}
