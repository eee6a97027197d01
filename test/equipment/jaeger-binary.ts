import { obtainJaeger } from "./jaeger.ts";

/** For its image. @throws Error that says what is missing, in one line. */
export async function jaegerBinary(): Promise<string> {
  const found = await obtainJaeger(process.env);
  if ("missing" in found) throw new Error(found.missing);
  return found.bin;
}
