/** The commands that README shows, so that tests run what people paste. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT } from "./services.ts";

/** @returns the commands in the first fenced block of the section, continued lines joined, comments left out. */
export async function readmeCommands(section: string): Promise<string[]> {
  const text = await readFile(join(ROOT, "README.md"), "utf8");
  const body = text.split(/^## /m).find((part) => part.startsWith(`${section}\n`));
  const block = /^```\w*\n([\s\S]*?)^```/m.exec(body ?? "")?.[1];
  if (block === undefined) throw new Error(`README has no commands in its section ${section}`);
  return block
    .replaceAll("\\\n", " ")
    .split("\n")
    .map((line) => line.replace(/\s+#\s.*$/, "").trim())
    .filter(Boolean);
}
