/**
 * `autellix model`: gets a model's file and puts a link to it where agents look for one. In containers it runs once,
 * before the agents, with the volume that they share.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, symlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { DEFAULT_MODEL, type Env } from "@autellix/runtime";
import { Console } from "./start/console.ts";
import { type ModelContext, modelFile } from "./start/models.ts";
import { type ModelSpec, modelSpec } from "./start/options.ts";
import { listenForStop, Stopped } from "./start/stop-request.ts";
import { UsageError } from "./usage.ts";

const STOPPED_EXIT_CODE = 130;
const HELP = `autellix model --out LINK [--model MODEL] [--folder FOLDER]

  --model MODEL    ${DEFAULT_MODEL.name} (the default), tiny, hf:user/repo:quant, or a GGUF file
  --folder FOLDER  where files are looked for that are there already
  --engine ENGINE  what the model is for: only llama needs a file, for others nothing is done
  --out LINK       becomes a link to the model's file; what is fetched is kept beside it
`;

/** @returns the exit code. @throws UsageError, ReadableError, PartError. */
export async function modelCommand(args: readonly string[], { env, cwd }: { env: Env; cwd: string }): Promise<number> {
  const values = parse(args);
  const { stdout } = process;
  if (values.help) {
    stdout.write(HELP);
    return 0;
  }
  if (values.engine && values.engine !== "llama") {
    stdout.write(`the engine ${values.engine} needs no model file\n`);
    return 0;
  }
  if (!values.out) throw new UsageError("model needs --out; see autellix model --help");
  const link = resolve(cwd, values.out);
  const console = new Console({
    write: (text) => stdout.write(text),
    isTty: stdout.isTTY === true,
    columns: stdout.columns || 80,
  });
  const stop = listenForStop(
    () => console.line("stopping …"),
    () => {},
  );
  try {
    const spec = specOf(values.model || DEFAULT_MODEL.name, resolve(cwd, values.folder || "."));
    await mkdir(dirname(link), { recursive: true });
    const context: ModelContext = { env, dataDir: dirname(link), console, signal: stop.signal };
    const file = await modelFile(spec, context);
    await point(link, file);
    console.line(`model ${values.model || DEFAULT_MODEL.name}: ${file}`);
    return 0;
  } catch (error) {
    if (error instanceof Stopped) return STOPPED_EXIT_CODE;
    throw error;
  } finally {
    stop.release();
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        model: { type: "string" },
        folder: { type: "string" },
        engine: { type: "string" },
        out: { type: "string" },
        help: { type: "boolean" },
      },
    }).values;
  } catch (error) {
    throw UsageError.fromParseArgs(error, "autellix model --help");
  }
}

function specOf(text: string, folder: string): ModelSpec {
  if (text !== DEFAULT_MODEL.name) return modelSpec(text, folder);
  const given = join(folder, DEFAULT_MODEL.file);
  return existsSync(given) ? { kind: "file", path: given } : { kind: "default" };
}

/** In one step: an agent that starts meanwhile finds the old file or the new one. */
async function point(link: string, file: string): Promise<void> {
  const temp = `${link}.${process.pid}-${randomBytes(4).toString("hex")}`;
  await symlink(file, temp);
  await rename(temp, link);
}
