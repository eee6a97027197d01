/**
 * Adds llama.cpp's binaries for a kind of GPU to what was installed, while an image is built. package.json leaves them
 * out for everybody (hundreds of MB), so they are put where node-llama-cpp looks for them. Argument: `none`, `cuda` or
 * `vulkan`. Without node-llama-cpp in the image there is nothing to add to.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PACKAGES = { none: [], cuda: ["linux-x64-cuda", "linux-x64-cuda-ext"], vulkan: ["linux-x64-vulkan"] };

const kind = process.argv[2] || "none";
const packages = PACKAGES[kind];
if (packages === undefined) throw new Error(`GPU must be one of ${Object.keys(PACKAGES).join(", ")} (it is "${kind}")`);
const library = "node_modules/node-llama-cpp/package.json";
if (packages.length > 0 && !existsSync(library)) throw new Error("this service has no engine of its own: GPU=none");

for (const name of packages) {
  // Another version would be ignored.
  const { version } = JSON.parse(readFileSync(library, "utf8"));
  const temp = mkdtempSync(join(tmpdir(), "gpu-"));
  const place = `node_modules/@node-llama-cpp/${name}`;
  const packed = execFileSync("npm", [
    "pack",
    "--silent",
    "--pack-destination",
    temp,
    `@node-llama-cpp/${name}@${version}`,
  ]);
  const archive = packed.toString().trim().split("\n").at(-1);
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  execFileSync("tar", ["-xzf", join(temp, archive), "-C", place, "--strip-components=1"]);
  rmSync(temp, { recursive: true });
}
