/** Runs once before the tests in containers: an engine, the images, and what this repository makes of them. */
import type { TestProject } from "vitest/node";
import { type DockerAccess, obtainDocker } from "../equipment/docker.ts";
import { type Images, obtainImages } from "../equipment/images.ts";
import { jaegerBinary } from "../equipment/jaeger-binary.ts";
import { buildServices } from "./services.ts";

/** What the tests get; or why they cannot run, and how to get what is missing, in one line. */
export type Containers = { docker: DockerAccess; images: Images; version: string } | { missing: string };

declare module "vitest" {
  interface ProvidedContext {
    containers: Containers;
  }
}

/** @returns what ends the engine that was started for them. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error("stopped"));
  process.once("SIGTERM", onSignal);
  const options = { env: process.env, signal: stop.signal, say: (text: string) => process.stdout.write(`${text}\n`) };
  let close = async () => {};
  try {
    const docker = await obtainDocker(options);
    close = docker.close;
    const { env, compose, version } = docker;
    const images = await obtainImages({ ...options, docker, jaeger: jaegerBinary });
    const tag = await buildServices({ ...options, docker, images });
    project.provide("containers", { docker: { env, compose, version }, images, version: tag });
  } catch (error) {
    await close();
    stop.signal.throwIfAborted();
    const reason = error instanceof Error ? error.message : String(error);
    const missing = `containers cannot be tested here: ${reason.replaceAll("\n", " ")}`;
    options.say(missing);
    project.provide("containers", { missing });
    return async () => {};
  } finally {
    process.off("SIGTERM", onSignal);
  }
  return close;
}
