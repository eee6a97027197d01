/**
 * What stands behind a public `QueueConnection`: kept apart, so that the types of the packed package name nothing of
 * this workspace.
 */
import { AutellixError, ask, type Bus, type Control, controlAnswerSchema, subjects } from "@autellix/protocol";

const buses = new WeakMap<object, Bus>();

export function bindBus(connection: object, bus: Bus): void {
  buses.set(connection, bus);
}

export function busOf(connection: object): Bus {
  const bus = buses.get(connection);
  if (!bus) throw new AutellixError("invalid_request", "not a connection that connect() made");
  return bus;
}

/** @returns whether the pool's leader did as it was asked; no answer decides nothing, so the caller repeats. */
export async function askLeader(bus: Bus, pool: string, tenant: string, message: Control): Promise<boolean> {
  const answer = await ask(bus, subjects.control(pool, tenant), message, controlAnswerSchema);
  return answer?.ok === true;
}
