/** One page in a real Chromium, and what it costs. */
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";
import { type ProcessUse, readProcesses } from "../processes.ts";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

export interface PageStats {
  messages: number;
  shots: number;
  draws: number;
  sorts: number;
  sortMsMax: number;
  askedSortsMs: number[];
}

export interface MeasuredPage {
  /** Waits until the selector is there. */
  wait(selector: string, msMax: number): Promise<void>;
  click(selector: string): Promise<void>;
  stats(): Promise<PageStats>;
  /** JavaScript's heap of the page after a collection. */
  heapBytes(): Promise<number>;
  /** All processes of the browser. */
  processes(): ProcessUse[];
  close(): Promise<void>;
}

/** @returns the path. @throws Error that says what to do. */
export async function findChromium(env: Readonly<Record<string, string | undefined>>): Promise<string> {
  const places = (env.PATH ?? "").split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  for (const place of env.CHROMIUM_BIN ? [env.CHROMIUM_BIN] : places) {
    const isThere = await access(place, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return place;
  }
  throw new Error("Chromium is missing; install it (Debian: apt-get install chromium) or set CHROMIUM_BIN");
}

export async function openPage(bin: string, url: string): Promise<MeasuredPage> {
  // Root has no sandbox of its own; nothing foreign is opened here.
  const server = await chromium.launchServer({ executablePath: bin, args: ["--no-sandbox"] });
  const browser = await chromium.connect(server.wsEndpoint());
  const page = await browser.newPage({ viewport: { width: 1_280, height: 900 } });
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  await page.goto(url);
  return {
    wait: async (selector, timeout) => void (await page.locator(selector).first().waitFor({ timeout })),
    click: async (selector) => void (await page.locator(selector).first().click()),
    stats: () => page.evaluate(() => ({ ...(globalThis as unknown as { autellixStats: PageStats }).autellixStats })),
    async heapBytes() {
      await session.send("HeapProfiler.collectGarbage");
      const { metrics } = await session.send("Performance.getMetrics");
      return metrics.find(({ name }) => name === "JSHeapUsedSize")?.value ?? Number.NaN;
    },
    processes: () => readProcesses(server.process().pid ?? -1),
    async close() {
      await browser.close();
      await server.close();
    },
  };
}
