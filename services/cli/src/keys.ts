/**
 * `npm run keys`: API keys and the tenants they stand for. Only a key's SHA-256 is kept. A slow password hash would
 * add nothing: a key is 256 random bits, which nobody can guess however fast they hash, and each HTTP request checks one.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { isName } from "@autellix/protocol";
import { z } from "zod";
import { ReadableError, UsageError } from "./usage.ts";

const KEY_BYTES = 32;
/** So that a key is known as one when it turns up where it should not be. */
const KEY_PREFIX = "ax-";
/** Hashes of keys are no secret, but nobody else needs them either. */
const FILE_MODE = 0o600;

const fileSchema = z.object({
  keys: z.array(
    z.object({
      /** `[A-Za-z0-9_-]{1,64}`. */
      tenant: z.string().refine(isName),
      /** Of the whole key, hex. */
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
      /** ISO time. */
      created: z.string(),
    }),
  ),
});
export type KeysFile = z.infer<typeof fileSchema>;

const HELP = `npm run keys -- create NAME    makes a key for the tenant NAME and prints it once
npm run keys -- list           tenants and when their keys were made
npm run keys -- revoke NAME    removes all keys of the tenant NAME

  --file FILE   where they are kept (default: .data/keys.json)
`;

/** @returns the exit code. @throws UsageError, ReadableError. */
export async function keysCommand(
  args: readonly string[],
  defaultDataDir: string,
  cwd: string,
  print: (text: string) => void,
): Promise<number> {
  const { values, positionals } = parse(args);
  const [action, name, ...rest] = positionals;
  if (values.help || action === undefined) {
    print(HELP);
    return values.help ? 0 : 2;
  }
  const path = resolve(cwd, values.file ?? join(defaultDataDir, "keys.json"));
  if (rest.length > 0) throw new UsageError(`"${rest[0]}" is one word too many; see npm run keys -- --help`);
  if (action === "list") {
    const { keys } = await readKeys(path, { keys: [] });
    for (const { tenant, created, sha256 } of keys) print(`${tenant}\t${created}\t${sha256.slice(0, 12)}\n`);
    return 0;
  }
  if (action !== "create" && action !== "revoke") throw new UsageError(`"${action}" is none of create, list, revoke`);
  if (name === undefined || !isName(name)) throw new UsageError("NAME must be 1 to 64 of A-Z a-z 0-9 _ -");
  if (action === "create") await createKey(path, name, print);
  else await revokeKeys(path, name, print);
  return 0;
}

/** @param missing what a file that does not exist stands for; without it that is an error. */
export async function readKeys(path: string, missing?: KeysFile): Promise<KeysFile> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") throw new ReadableError(`the keys file ${path} cannot be read: ${message}`);
    if (missing !== undefined) return missing;
    throw new ReadableError(
      `the keys file ${path} does not exist; make a key with: npm run keys -- create NAME --file ${path}`,
    );
  }
  try {
    return fileSchema.parse(JSON.parse(text));
  } catch {
    throw new ReadableError(`the keys file ${path} is damaged; it must be {"keys": [{"tenant", "sha256", "created"}]}`);
  }
}

async function createKey(path: string, tenant: string, print: (text: string) => void): Promise<void> {
  const file = await readKeys(path, { keys: [] });
  const key = KEY_PREFIX + randomBytes(KEY_BYTES).toString("base64url");
  const sha256 = createHash("sha256").update(key).digest("hex");
  await writeKeys(path, { keys: [...file.keys, { tenant, sha256, created: new Date().toISOString() }] });
  print(`${key}\n`);
  print(`This key of tenant ${tenant} is shown only now. Use it with: npm start -- --api-keys ${path}\n`);
}

async function revokeKeys(path: string, tenant: string, print: (text: string) => void): Promise<void> {
  const { keys } = await readKeys(path);
  const kept = keys.filter((key) => key.tenant !== tenant);
  if (kept.length === keys.length) throw new ReadableError(`${path} has no key of tenant ${tenant}`);
  await writeKeys(path, { keys: kept });
  print(
    `${keys.length - kept.length} keys of tenant ${tenant} are revoked; frontends that run refuse them within a second or two.\n`,
  );
}

async function writeKeys(path: string, file: KeysFile): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temp = `${path}.${randomBytes(4).toString("hex")}`;
  try {
    await writeFile(temp, `${JSON.stringify(file, null, 2)}\n`, { mode: FILE_MODE });
    await rename(temp, path);
  } finally {
    await rm(temp, { force: true });
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { file: { type: "string" }, help: { type: "boolean", short: "h" } },
    });
  } catch (error) {
    throw UsageError.fromParseArgs(error, "npm run keys -- --help");
  }
}
