/** The connection of the observing commands. */
import { AutellixError, type Bus, openBus } from "@autellix/protocol";
import { ReadableError } from "../usage.ts";

const CONNECT_MS_MAX = 4_000;

/** @throws ReadableError in one line: nothing answers, or what answers does not fit. */
export async function connect(url: string, name: string): Promise<Bus> {
  try {
    return await openBus({ url, name: `autellix ${name}`, connectTimeoutMs: CONNECT_MS_MAX });
  } catch (error) {
    if (!(error instanceof AutellixError)) throw error;
    throw new ReadableError(`${error.message}; say with --nats where it is, or ask: autellix doctor`);
  }
}

/** Without user and password; also those of a list, and of an address without a scheme. */
export function shownUrl(url: string): string {
  return url
    .split(",")
    .map((one) => one.replace(/^(\s*(?:[a-z+]+:\/\/)?)[^/]*@/i, "$1"))
    .join(",");
}
