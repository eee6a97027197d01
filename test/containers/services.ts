/** Builds the images of this repository's services from the clone as it is. */
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { runChild } from "@autellix/runtime";
import type { Env } from "../engines/equipment/python.ts";
import type { DockerAccess } from "../equipment/docker.ts";
import type { Images } from "../equipment/images.ts";

export const ROOT = resolve(import.meta.dirname, "../..");
/** Tag of images that are made for tests: one of the person's own is never overwritten. */
export const TEST_VERSION = "test";
const BUILD_MS_MAX = 10 * 60_000;

export interface BuildOptions {
  docker: DockerAccess;
  images: Images;
  env: Env;
  signal: AbortSignal;
  say(text: string): void;
}

/** @returns the tag, for `AUTELLIX_VERSION`. */
export async function buildServices({ docker, images, env, signal, say }: BuildOptions): Promise<string> {
  const services = (await readdir(join(ROOT, "services"), { withFileTypes: true })).filter((entry) =>
    entry.isDirectory(),
  );
  for (const { name } of services) {
    say(`building the image of ${name} …`);
    const args = ["--file", "infra/Dockerfile", "--build-arg", `SERVICE=${name}`];
    args.push("--build-arg", `NODE_IMAGE=${images.NODE_IMAGE}`, "--tag", `autellix/${name}:${TEST_VERSION}`);
    await runChild("docker", ["build", "--quiet", ...args, "."], {
      // The builder that every Docker has.
      env: { ...env, ...docker.env, DOCKER_BUILDKIT: "0" },
      cwd: ROOT,
      signal: AbortSignal.any([signal, AbortSignal.timeout(BUILD_MS_MAX)]),
    });
  }
  return TEST_VERSION;
}
