/** Runs once before the tests of engines: gets the equipment and hands it to them. */
import type { TestProject } from "vitest/node";
import { type Equipment, obtainEquipment } from "./equipment/index.ts";

declare module "vitest" {
  interface ProvidedContext {
    equipment: Equipment;
  }
}

export default async function setup(project: TestProject): Promise<void> {
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error("stopped"));
  process.once("SIGTERM", onSignal);
  try {
    const say = (text: string) => process.stdout.write(`${text}\n`);
    project.provide("equipment", await obtainEquipment({ env: process.env, signal: stop.signal, say }));
  } finally {
    process.off("SIGTERM", onSignal);
  }
}
