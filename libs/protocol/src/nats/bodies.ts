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

/** @returns the object's name. @throws when it was not stored. */
export async function putBody(bus: Bus, bytes: Uint8Array): Promise<string> {
  const name = randomUUID();
  await (await storeOf(bus)).putBlob({ name }, bytes);
  return name;
}

/** @throws AutellixError `result_expired` when there is no such object, `body_too_large` above the limit. */
export async function getBody(bus: Bus, name: string): Promise<Uint8Array> {
  const store = await storeOf(bus);
  const info = await store.info(name);
  if (!info || info.deleted) throw new AutellixError("result_expired", "the stored body is gone");
  if (info.size > 4 * BODY_BYTES_MAX) throw new AutellixError("body_too_large");
  const bytes = await store.getBlob(name);
  if (!bytes) throw new AutellixError("result_expired", "the stored body is gone");
  return bytes;
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
