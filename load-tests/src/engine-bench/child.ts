/** A process of its own, on a core of its own where that is asked for: answers one measurement after another, until its parent goes away. */
import type { Engine } from "@autellix/engines";
import { type CalibratedEngine, type CalibratedOptions, calibrated } from "../calibrate/calibrated.ts";
import { type ContextOptions, measureContexts } from "./contexts.ts";
import { Direct, type DirectOptions } from "./direct.ts";
import type { DecodeLoad } from "./load.ts";
import { type EngineOptions, openEngine } from "./open-engine.ts";
import type { Measured } from "./pairs.ts";

export type Order =
  | { kind: "openDirect"; options: DirectOptions }
  | { kind: "decode"; load: DecodeLoad }
  | { kind: "openEngine"; options: EngineOptions }
  | { kind: "contexts"; options: ContextOptions }
  | { kind: "calibrate"; engine: CalibratedEngine; options: CalibratedOptions };

export type Answer = { ok: true; value: unknown } | { ok: false; error: string; name: string };

let direct: Direct | undefined;
let engine: Engine | undefined;

async function obey(order: Order): Promise<unknown> {
  switch (order.kind) {
    case "openDirect":
      direct = await Direct.open(order.options);
      return undefined;
    case "openEngine":
      engine = await openEngine(order.options);
      return engine.info;
    case "decode":
      return await decode(order.load);
    case "contexts":
      if (engine === undefined) throw new Error("no engine is open");
      return await measureContexts(engine, order.options);
    case "calibrate":
      return await calibrated(order.engine, order.options);
  }
}

async function decode(load: DecodeLoad): Promise<Measured> {
  if (direct === undefined) throw new Error("no model is open");
  const before = process.cpuUsage();
  const { tokensPerS, tokensAll } = await direct.decode(load);
  const { user, system } = process.cpuUsage(before);
  return { tokensPerS, cpuMsPerToken: (user + system) / 1_000 / tokensAll };
}

process.on("message", (order: Order) => {
  obey(order).then(
    (value) => process.send?.({ ok: true, value } satisfies Answer),
    (error: unknown) =>
      process.send?.({
        ok: false,
        error: error instanceof Error ? error.message : String(error),
        name: error instanceof Error ? error.name : "Error",
      } satisfies Answer),
  );
});
process.on("disconnect", () => process.exit());
