/**
 * API keys: a JSON file `{ "keys": [{ "tenant", "sha256", "created" }] }` that holds hashes only. It is read again when
 * it changes; a file that cannot be used keeps the keys that are in force.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { AutellixError, DEFAULT_TENANT, NAME_PATTERN, validate } from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import { z } from "zod";

const POLL_MS = 1_000;
const KEYS_MAX = 100_000;

const fileSchema = z.object({
  keys: z
    .array(
      z.object({
        tenant: z.string().regex(NAME_PATTERN),
        sha256: z.string().regex(/^[0-9a-f]{64}$/i),
        created: z.string().optional(),
      }),
    )
    .max(KEYS_MAX),
});

/** Who is asking. `tenantOf` throws AutellixError `invalid_api_key`. */
export interface KeyRing {
  tenantOf(authorization: string | undefined): string;
  stop(): void;
}

/** Without a file any key, or none, means the default tenant. */
export const openRing: KeyRing = { tenantOf: () => DEFAULT_TENANT, stop: () => {} };

/** @throws AutellixError `invalid_request` when the file cannot be used at the start. */
export async function keyRing(path: string, log: Logger, pollMs = POLL_MS): Promise<KeyRing> {
  let { tenants, version } = await load(path);
  let reading = false;
  const timer = setInterval(() => {
    if (reading) return;
    reading = true;
    void reload(path, version).then(
      (next) => {
        reading = false;
        if (next) {
          ({ tenants, version } = next);
          log.info({ keys: tenants.size }, "the key file has changed and was read again");
        }
      },
      (error: unknown) => {
        reading = false;
        const failed = `failed: ${error instanceof Error ? error.message : String(error)}`;
        if (version === failed) return; // said once
        version = failed;
        log.error({ reason: failed }, "the key file cannot be used: the keys read before stay in force");
      },
    );
  }, pollMs);
  timer.unref();
  return { tenantOf: (authorization) => tenantOf(tenants, authorization), stop: () => clearInterval(timer) };
}

function tenantOf(tenants: Keys["tenants"], authorization: string | undefined): string {
  const key = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
  if (key === undefined) {
    throw new AutellixError("invalid_api_key", "no API key: send the header Authorization: Bearer KEY");
  }
  // Looked up by its hash: what the time of that tells about a hash says nothing about a key.
  const hash = createHash("sha256").update(key).digest();
  const found = tenants.get(hash.toString("hex"));
  if (found && timingSafeEqual(found.hash, hash)) return found.tenant;
  throw new AutellixError("invalid_api_key", "the API key is unknown");
}

interface Keys {
  /** Tenant by lower-case hash. */
  tenants: ReadonlyMap<string, { tenant: string; hash: Buffer }>;
  /** Changes with the file. */
  version: string;
}

async function reload(path: string, version: string): Promise<Keys | undefined> {
  return (await versionOf(path)) === version ? undefined : await load(path);
}

async function load(path: string): Promise<Keys> {
  try {
    const version = await versionOf(path);
    const { keys } = validate(fileSchema, JSON.parse(await readFile(path, "utf8")));
    const tenants = new Map(
      keys.map(({ sha256, tenant }) => [sha256.toLowerCase(), { tenant, hash: Buffer.from(sha256, "hex") }] as const),
    );
    return { tenants, version };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new AutellixError("invalid_request", `the key file ${path} cannot be used: ${why}`, { cause });
  }
}

async function versionOf(path: string): Promise<string> {
  const { mtimeMs, size, ino } = await stat(path);
  return `${mtimeMs} ${size} ${ino}`;
}
