/** Prometheus text, as far as servers' own counts need it. */
import type { HttpClient } from "./client.ts";

export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}

const LINE = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

/** All samples of one metric. */
export function samplesOf(text: string, name: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith(name)) continue;
    const [, found, labels = "", value] = LINE.exec(line) ?? [];
    if (found !== name) continue;
    samples.push({
      labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, key = "", text = ""]) => [key, text])),
      value: Number(value),
    });
  }
  return samples;
}

/** The sum over these metrics and all their labels; undefined when the server has none of them. */
export async function metricSum(client: HttpClient, names: readonly string[]): Promise<number | undefined> {
  const { status, text } = await client.json("GET", "/metrics");
  if (status !== 200) return undefined;
  const samples = names.flatMap((name) => samplesOf(text, name)).filter(({ value }) => Number.isFinite(value));
  return samples.length === 0 ? undefined : samples.reduce((sum, { value }) => sum + value, 0);
}
