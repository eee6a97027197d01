/**
 * Names that travel in subjects, keys and messages, and the one place that says what a valid one looks like.
 */

/** `[A-Za-z0-9_-]{1,64}`: what a pool, tenant, call id, engine id or frontend id may be (design §3). */
export const NAME_PATTERN = /^[A-Za-z0-9_-]{1,64}$/;
export const NAME_LENGTH_MAX = 64;
/** Program and thread ids are free text; longer ones are refused. */
export const PROGRAM_ID_LENGTH_MAX = 256;

/** Whether a header can carry the id unchanged: no control characters, no spaces around it (NATS trims values). */
export function isProgramId(text: string): boolean {
  return text.length > 0 && text.length <= PROGRAM_ID_LENGTH_MAX && text.trim() === text && !/\p{Cc}/u.test(text);
}

export function isName(text: string): boolean {
  return NAME_PATTERN.test(text);
}

/** Names a call inside its pool: `<tenant>/<callId>`. Frontends, plans, reports and the core all use this form. */
export type CallKey = string;

export function callKey(tenant: string, callId: string): CallKey {
  return `${tenant}/${callId}`;
}

/** @throws when `key` is not `<tenant>/<callId>`: keys are only made by `callKey`, so this is a broken invariant. */
export function splitCallKey(key: CallKey): { tenant: string; callId: string } {
  const slash = key.indexOf("/");
  if (slash < 1 || slash === key.length - 1) throw new Error(`not a call key: ${key}`);
  return { tenant: key.slice(0, slash), callId: key.slice(slash + 1) };
}

/** Free text as one token of a subject or key (`hf:user/model` is no valid KV key). */
export function toToken(text: string): string {
  return Buffer.from(text, "utf8").toString("base64url");
}

export function fromToken(token: string): string {
  return Buffer.from(token, "base64url").toString("utf8");
}
