/** Whether a service traces, how much, and where its spans go. Without an endpoint no span is made. */
import type { z } from "zod";
import { envNumber, envText } from "../config.ts";

const TRACES_PATH = "/v1/traces";

/** Of every service; spread it beside `commonConfig`. */
export const spansConfig = {
  /** A collector's OTLP endpoint over HTTP, `http://host:4318`; without it, and the next two, nothing is traced. */
  AUTELLIX_OTLP_URL: endpoint().optional(),
  /** The same by the names of OpenTelemetry's specification. */
  OTEL_EXPORTER_OTLP_ENDPOINT: endpoint().optional(),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: endpoint().optional(),
  /** Share of programs that are traced; the same in all services. */
  AUTELLIX_TRACE_SAMPLE: envNumber({ min: 0, max: 1 }).default(1),
};

export type SpansEnv = z.infer<z.ZodObject<typeof spansConfig>>;

export interface SpansSetup {
  /** Where spans are posted. */
  url: string;
  /** 0 … 1 */
  sample: number;
}

function endpoint() {
  return envText().refine((text) => /^https?:$/.test(URL.parse(text)?.protocol ?? ""), "must be an http or https URL");
}

/** @returns undefined when nothing is traced. */
export function spansSetup(env: SpansEnv): SpansSetup | undefined {
  const sample = env.AUTELLIX_TRACE_SAMPLE;
  const { AUTELLIX_OTLP_URL: own, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: whole, OTEL_EXPORTER_OTLP_ENDPOINT: base } = env;
  if (sample === 0) return undefined;
  if (own === undefined && whole !== undefined) return { url: whole, sample };
  const given = own ?? base;
  return given === undefined ? undefined : { url: tracesUrl(given), sample };
}

function tracesUrl(base: string): string {
  const url = new URL(base);
  if (!url.pathname.endsWith(TRACES_PATH)) url.pathname = url.pathname.replace(/\/$/, "") + TRACES_PATH;
  return url.href;
}
