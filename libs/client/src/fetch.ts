/**
 * A `fetch` for the official `openai` package that says of each call which program and thread it belongs to and
 * which calls it follows.
 */
import { AutellixError, errorBody, errorTable, headers } from "@autellix/protocol";
import { currentContext, parentsAmong } from "./context.ts";
import { apiBase, openOverHttp } from "./http-home.ts";

export interface AutellixFetchOptions {
  /** What sends the requests. Default: the global `fetch`. */
  fetch?: typeof fetch;
}

const CALL_PATH = "/chat/completions";
/** Set by the frontend on each answer. */
const CALL_ID_FIELD = "x-autellix-call-id";

/**
 * `new OpenAI({ baseURL, fetch: autellixFetch() })`. Outside of a program, and for every path but
 * `…/chat/completions`, it passes the request on unchanged.
 *
 * Inside one, the first call to a server opens the program there; it gets the answer that refuses this, and rejects when
 * the server could not be reached.
 */
export function autellixFetch({ fetch: send = fetch }: AutellixFetchOptions = {}): typeof fetch {
  return async (input, init) => {
    const context = currentContext();
    const url = new URL(input instanceof Request ? input.url : input);
    if (!context || !url.pathname.endsWith(CALL_PATH)) return await send(input, init);

    const { program, thread } = context;
    const fields = new Headers(input instanceof Request ? input.headers : undefined);
    new Headers(init?.headers).forEach((value, name) => {
      fields.set(name, value);
    });
    const base = apiBase(new URL(url.pathname.slice(0, -CALL_PATH.length), url.origin));
    const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
    try {
      const key = fields.get("authorization") ?? undefined;
      await unlessAborted(
        signal,
        program.openAt(base, () => openOverHttp(send, base, key, program.id)),
      );
    } catch (error) {
      if (error instanceof AutellixError && error.code !== "queue_unavailable") return answerOf(error);
      throw error;
    }

    const { heads } = thread;
    const parents = parentsAmong(heads);
    fields.set(headers.program, program.id);
    fields.set(headers.thread, thread.id);
    if (parents.length > 0) fields.set(headers.parents, parents.join(","));
    const response = await send(input, { ...init, headers: fields });
    const callId = response.headers.get(CALL_ID_FIELD);
    if (response.ok && callId) thread.follow(heads, callId);
    return response;
  };
}

/** One call that is given up does not end the opening, for which others of the program wait, too. */
function unlessAborted<T>(signal: AbortSignal | undefined, opening: Promise<T>): Promise<T> {
  if (!signal) return opening;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    opening.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** As a frontend answers: an error that is thrown would be a broken connection to the SDK, which it tries again. */
function answerOf({ code, message }: AutellixError): Response {
  const { http, retryable } = errorTable[code];
  const fields = { "content-type": "application/json", "x-should-retry": String(retryable) };
  return new Response(JSON.stringify(errorBody(code, message)), { status: http, headers: fields });
}
