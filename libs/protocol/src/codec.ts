/**
 * msgpack for everything internal, JSON for everybody else. A decoder need not be told which: every message is a
 * map or an array, whose first msgpack byte is never `{` or `[` or JSON's white space.
 */
import { Packr } from "msgpackr";
import type { z } from "zod";
import { AutellixError } from "./errors.ts";

// No records and no structure cache: bytes stay decodable by any msgpack library and by later versions.
const packr = new Packr({ useRecords: false, variableMapSize: true });

export type Encoding = "msgpack" | "json";

export function encode(value: unknown, encoding: Encoding = "msgpack"): Uint8Array {
  return encoding === "msgpack" ? packr.pack(value) : Buffer.from(JSON.stringify(value), "utf8");
}

/** The encoding of a message by its first byte that is no white space. */
export function encodingOf(bytes: Uint8Array): Encoding {
  for (const byte of bytes) {
    if (byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d) continue;
    return byte === 0x7b || byte === 0x5b ? "json" : "msgpack";
  }
  return "json";
}

/** @throws AutellixError `invalid_json` when the bytes are neither. */
export function decode(bytes: Uint8Array): unknown {
  try {
    return encodingOf(bytes) === "json" ? JSON.parse(Buffer.from(bytes).toString("utf8")) : packr.unpack(bytes);
  } catch (cause) {
    throw new AutellixError("invalid_json", undefined, { cause });
  }
}

/**
 * Decodes and validates at the edge.
 * @throws AutellixError `invalid_json` or `invalid_request`, the latter with the field at fault.
 */
export function decodeAs<S extends z.ZodType>(schema: S, bytes: Uint8Array): z.output<S> {
  return validate(schema, decode(bytes));
}

/** @throws AutellixError `invalid_request` with the first field at fault. */
export function validate<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const param = issue?.path.join(".") ?? "";
  throw new AutellixError("invalid_request", param ? `${param}: ${issue?.message}` : (issue?.message ?? "invalid"), {
    param,
  });
}
