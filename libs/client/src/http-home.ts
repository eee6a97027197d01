/**
 * Opening and ending a program at an HTTP API.
 */
import { AutellixError, isErrorCode } from "@autellix/protocol";
import type { Home } from "./context.ts";

/** Time that opening or ending may take. */
const PROGRAM_REQUEST_MS_MAX = 10_000;

/** `http://host:port/v1` without a slash at the end, query or fragment. */
export function apiBase(url: string | URL): string {
  const parsed = new URL(url);
  return `${parsed.origin}${parsed.pathname.replace(/\/+$/, "")}`;
}

/**
 * Opens the program at `base`. A server that has no programs (any other OpenAI endpoint) is used as it is.
 *
 * @throws AutellixError with the server's code, or `queue_unavailable` when it could not be reached.
 */
export async function openOverHttp(
  send: typeof fetch,
  base: string,
  authorization: string | undefined,
  programId: string,
): Promise<Home> {
  const fields: Record<string, string> = authorization === undefined ? {} : { authorization };
  const opened = await request(send, `${base}/programs`, {
    method: "POST",
    headers: { ...fields, "content-type": "application/json" },
    body: JSON.stringify({ id: programId }),
  });
  if (opened.status === 404 || opened.status === 405) return { end: async () => {} };
  refuse(opened, "opening the program");
  return {
    end: async (cancel) => {
      const url = `${base}/programs/${encodeURIComponent(programId)}${cancel ? "?cancel=true" : ""}`;
      const ended = await request(send, url, { method: "DELETE", headers: fields });
      // Not known (any more): the server has dropped it as idle, which is an end too.
      if (ended.status !== 404) refuse(ended, "ending the program");
    },
  };
}

async function request(send: typeof fetch, url: string, init: RequestInit): Promise<{ status: number; text: string }> {
  try {
    const response = await send(url, { ...init, signal: AbortSignal.timeout(PROGRAM_REQUEST_MS_MAX) });
    return { status: response.status, text: await response.text() };
  } catch (cause) {
    throw new AutellixError("queue_unavailable", `${url} could not be reached`, { cause });
  }
}

function refuse({ status, text }: { status: number; text: string }, what: string): void {
  if (status < 400) return;
  const { code, message } = errorOf(text);
  throw new AutellixError(isErrorCode(code) ? code : "internal_error", `${what}: HTTP ${status} ${message}`);
}

function errorOf(text: string): { code: string; message: string } {
  try {
    const { error } = JSON.parse(text) as { error?: { code?: unknown; message?: unknown } };
    return { code: String(error?.code ?? ""), message: String(error?.message ?? "") };
  } catch {
    return { code: "", message: text.slice(0, 200) }; // a proxy's page, no error of ours
  }
}
