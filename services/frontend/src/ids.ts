import { randomBytes } from "node:crypto";

/** 128 random bits in characters that a subject may hold. */
export function newId(): string {
  return randomBytes(16).toString("base64url");
}
