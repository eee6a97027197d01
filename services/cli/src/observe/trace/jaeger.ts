/** A program's trace as Jaeger's query API has it. */
import type { Waterfall } from "./waterfall.ts";

export async function jaegerWaterfall(_url: string, _tenant: string, _program: string): Promise<Waterfall> {
  throw new Error("not yet");
}
