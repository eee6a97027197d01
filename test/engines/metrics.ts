/** What a server says of itself at `/metrics`, read without our own client. */
import { setTimeout as pause } from "node:timers/promises";

const POLL_MS = 10;

/** @param name without labels. @returns the sum over its series. @throws Error when there is none. */
export async function metric(url: string, name: string): Promise<number> {
  const answer = await fetch(`${url}/metrics`);
  const text = await answer.text();
  const values = text
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .map((line) => Number(line.slice(line.lastIndexOf(" ") + 1)));
  if (values.length === 0) throw new Error(`${url} has no metric ${name}`);
  return values.reduce((sum, value) => sum + value, 0);
}

/** Waits until the server says so. @returns after how many ms. @throws Error with the last value after `msMax`. */
export async function untilMetric(
  url: string,
  name: string,
  fits: (value: number) => boolean,
  msMax = 20_000,
): Promise<number> {
  const startedAtMs = performance.now();
  for (;;) {
    const value = await metric(url, name);
    const ms = performance.now() - startedAtMs;
    if (fits(value)) return ms;
    if (ms > msMax) throw new Error(`${name} is still ${value} after ${msMax} ms`);
    await pause(POLL_MS);
  }
}
