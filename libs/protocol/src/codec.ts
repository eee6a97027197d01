/**
 * msgpack for everything internal, JSON for everybody else. A decoder need not be told which: every message is a
 * map or an array, whose first msgpack byte is never `{` or `[` or JSON's white space.
 */
import { Packr } from "msgpackr";
import type { z } from "zod";
import { AutellixError } from "./errors.ts";
import { clearest, fieldName, sentence } from "./issues.ts";

// No records and no structure cache: bytes stay decodable by any msgpack library and by later versions.
// A whole number stays a number whatever width its sender chose; never a BigInt; schemas refuse those beyond 2^53.
const packr = new Packr({ useRecords: false, variableMapSize: true, int64AsType: "number" });
const utf8 = new TextDecoder("utf-8", { fatal: true });

export type Encoding = "msgpack" | "json";

export function encode(value: unknown, encoding: Encoding = "msgpack"): Uint8Array {
  return encoding === "msgpack" ? packr.pack(value) : Buffer.from(JSON.stringify(value), "utf8");
}

/**
 * The encoding of a message by its first byte that is no white space: msgpack when a map or an array begins there. Else
 * it is no message of ours, and who sent it is told so in JSON: a "7" would be valid msgpack, but a person typed it.
 */
export function encodingOf(bytes: Uint8Array): Encoding {
  for (const byte of bytes) {
    if (byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d) continue;
    const isMapOrArray = (byte >= 0x80 && byte <= 0x9f) || (byte >= 0xdc && byte <= 0xdf);
    return isMapOrArray ? "msgpack" : "json";
  }
  return "json";
}

/**
 * @throws AutellixError `invalid_json` when the bytes are neither. It has no `cause`: the parsers' own messages quote
 * the text that they stumble over, and that may be a prompt (S12).
 */
export function decode(bytes: Uint8Array): unknown {
  try {
    return encodingOf(bytes) === "json" ? JSON.parse(utf8.decode(bytes)) : packr.unpack(bytes);
  } catch {
    throw new AutellixError("invalid_json");
  }
}

/**
 * Decodes and validates at the edge.
 * @throws AutellixError `invalid_json` or `invalid_request`, the latter with the field at fault.
 */
export function decodeAs<S extends z.ZodType>(schema: S, bytes: Uint8Array): z.output<S> {
  return validate(schema, decode(bytes));
}

/**
 * @param at where the value stands, when it is a part of a message.
 * @throws AutellixError `invalid_request` with the first field at fault (`messages[0].role: is required`).
 */
export function validate<S extends z.ZodType>(
  schema: S,
  value: unknown,
  at: readonly (string | number)[] = [],
): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const first = parsed.error.issues[0];
  if (!first) throw new AutellixError("invalid_request");
  const issue = clearest(first);
  const param = fieldName([...at, ...issue.path]);
  const text = sentence(issue);
  throw new AutellixError("invalid_request", param ? `${param}: ${text}` : text, param ? { param } : {});
}
