/**
 * Bodies and results above the payload limit, in the object store. A name is unique per publish, so that a repeated
 * publish never overwrites what an earlier one named.
 */

import { randomUUID } from "node:crypto";
import { type ObjectStore, Objm } from "@nats-io/obj";
import { AutellixError } from "../errors.ts";
import { BODY_BYTES_MAX } from "../limits.ts";
import { BODIES_STORE } from "../subjects.ts";
import type { Bus } from "./bus.ts";

/** A result may be larger than any body: JSON escapes, usage, several choices. */
const OBJECT_BYTES_MAX = 4 * BODY_BYTES_MAX;
/** Longest wait for the next piece (128 KB) of an object. */
const PIECE_TIMEOUT_MS = 5_000;

/** A tenant and a UUID have at most 101 characters; a plan carries one name per call. */
const BODY_NAME_LENGTH_MAX = 128;

const stores = new WeakMap<Bus, Promise<ObjectStore>>();

function storeOf(bus: Bus): Promise<ObjectStore> {
  let store = stores.get(bus);
  if (!store) {
    store = new Objm(bus.js).open(BODIES_STORE);
    stores.set(bus, store);
    store.catch(() => stores.delete(bus)); // the next use tries again; this one throws to its caller
  }
  return store;
}

/** Whether an object of this name may belong to a call of the tenant: nobody reads or deletes another tenant's. */
export function isBodyOf(tenant: string, name: string): boolean {
  return name.startsWith(`${tenant}.`) && name.length <= BODY_NAME_LENGTH_MAX;
}

/** @returns the object's name, which begins with its tenant. @throws when it was not stored. */
export async function putBody(bus: Bus, tenant: string, bytes: Uint8Array): Promise<string> {
  const name = `${tenant}.${randomUUID()}`;
  await (await storeOf(bus)).putBlob({ name }, bytes);
  return name;
}

/**
 * @throws AutellixError `result_expired` when there is no such object, `body_too_large` above the limit,
 * `queue_unavailable` when the store does not answer (try again).
 */
export async function getBody(bus: Bus, name: string): Promise<Uint8Array> {
  try {
    const store = await storeOf(bus);
    const info = await store.info(name);
    if (!info || info.deleted) throw gone();
    if (info.size > OBJECT_BYTES_MAX) throw new AutellixError("body_too_large");
    const object = await store.get(name);
    if (!object) throw gone();
    // It also says, later, what the reader below throws first.
    object.error.catch(() => undefined);
    const bytes = await readAll(object.data, info.size);
    if (bytes) return bytes;
    const now = await store.info(name);
    if (!now || now.deleted) throw gone();
    throw new Error(`a piece of the object did not come within ${PIECE_TIMEOUT_MS} ms`);
  } catch (cause) {
    if (cause instanceof AutellixError) throw cause;
    throw new AutellixError("queue_unavailable", "the stored body could not be read", { cause });
  }
}

/** The client waits for ever for a piece that is gone (deleted meanwhile). @returns undefined when one did not come. */
async function readAll(stream: ReadableStream<Uint8Array>, bytes: number): Promise<Uint8Array | undefined> {
  const pieces: Uint8Array[] = [];
  const reader = stream.getReader();
  let timer: NodeJS.Timeout | undefined;
  const late = Symbol("late");
  try {
    for (;;) {
      const waited = new Promise<typeof late>((resolve) => {
        timer = setTimeout(() => resolve(late), PIECE_TIMEOUT_MS);
      });
      const piece = await Promise.race([reader.read(), waited]);
      clearTimeout(timer);
      if (piece === late) return undefined;
      if (piece.done) break;
      pieces.push(piece.value);
    }
  } finally {
    clearTimeout(timer);
    await reader.cancel().catch(() => undefined); // nothing to cancel when it failed or ended by itself
  }
  return Buffer.concat(pieces, bytes);
}

function gone(): AutellixError {
  return new AutellixError("result_expired", "the stored body is gone");
}

/** Idempotent; a body that could not be deleted ends with the store's age limit. @returns whether it is gone. */
export async function deleteBody(bus: Bus, name: string): Promise<boolean> {
  try {
    await (await storeOf(bus)).delete(name);
    return true;
  } catch {
    return false;
  }
}
