/**
 * The dashboard in a real browser, on a real system under load: what a person would look at. Engines are simulated:
 * little room and short quanta, so that calls are preempted and swapped while one watches.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import AxeBuilder from "@axe-core/playwright";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { need } from "../engines/need.ts";
import { obtainChromium } from "../equipment/chromium.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";
import { LITTLE_ROOM, LONG_TOKENS, Load, type LoadCall, SECRET, send, startPool } from "./dashboard-load.ts";

const tools = await obtainChromium(process.env);
if ("missing" in tools) process.stdout.write(`${tools.missing}\n`);

/** What functions that run in the page use there: Node's own types and a browser's do not go together. */
interface PageElement {
  id: string;
  tagName: string;
  value: string;
  textContent: string | null;
  scrollWidth: number;
  dataset: Record<string, string | undefined>;
  getAttribute(name: string): string | null;
}
declare const document: {
  activeElement: PageElement | null;
  body: PageElement;
  documentElement: PageElement;
  querySelector(selector: string): PageElement | null;
  querySelectorAll(selector: string): Iterable<PageElement>;
};
declare const innerWidth: number;
declare function getComputedStyle(element: PageElement): { outlineStyle: string; outlineWidth: string };

/** Where the pictures go, for people to look at. */
const PICTURES = resolve(import.meta.dirname, "../../.screenshots");
/** Two busy cores. */
const SEEN_MS_MAX = 60_000;
/** No place to break it. */
const LONG_NAME = "w".repeat(200);
/** The most that a pool's and an engine's name may have. */
const LONG_POOL = LONG_NAME.slice(0, 64);

let stack: TestStack;
let browser: Browser;
let folder: string;
let load: Load;
let context: BrowserContext;
/** Of all pages. */
const requests: string[] = [];
const problems: string[] = [];

describe.skipIf("missing" in tools)("the dashboard", () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "autellix-dashboard-test-"));
    stack = await startTestStack({
      models: [],
      engines: 2,
      dashboard: true,
      args: ["--engine", "simulated", "--preset", "smollm2-cpu", "--input-log", join(folder, "inputs.jsonl")],
      env: LITTLE_ROOM,
    });
    // Root has no sandbox of its own; nothing foreign is opened here.
    browser = await chromium.launch({ executablePath: need(tools).bin, args: ["--no-sandbox"] });
    load = new Load(stack.urls[0] ?? "");
  });

  afterAll(async () => {
    await load?.stop();
    await browser?.close();
    await stack?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  afterEach(async () => {
    await context?.close();
    expect(problems.splice(0), "errors in the browser").toEqual([]);
  });

  test("shows a running mix: slots, queues, a preemption and a swap as they happen, and loads nothing from elsewhere", async () => {
    const page = await open("/", 1_280, "light");
    await page.locator(".chip.slot").first().waitFor({ timeout: SEEN_MS_MAX });
    expect(await page.locator(".engine").count()).toBe(2);
    expect(await page.locator(".status").textContent()).toContain("live");
    // A call that left its batch stands in a queue, marked, and comes back to a slot.
    await page.locator(".chip.queue.parked, .chip.queue.swapped").first().waitFor({ timeout: SEEN_MS_MAX });
    await page.waitForFunction(cameBack, undefined, { timeout: SEEN_MS_MAX, polling: 50 });
    await page.locator(".chip.queue.swapped").first().waitFor({ timeout: SEEN_MS_MAX });
    for (const kind of ["preempted", "swapped out", "swapped in", "demoted"])
      await page.waitForFunction(hasHappened, kind, { timeout: SEEN_MS_MAX, polling: 100 });
    await page.locator(".grid-body [role=row]", { hasText: "long-1" }).first().waitFor({ timeout: SEEN_MS_MAX });
    expect(await page.locator(".facts").innerText()).toMatch(/of 4 slots/);
    const strangers = requests.filter((url) => new URL(url).origin !== stack.dashboardUrl && !url.startsWith("data:"));
    expect(requests.length).toBeGreaterThan(3);
    expect(strangers).toEqual([]);
  });

  test("gets fewer than ten messages a second, and draws no more often", async () => {
    const page = await open("/", 1_280, "light");
    await page.locator(".chip").first().waitFor({ timeout: SEEN_MS_MAX });
    const before = await stats(page);
    const began = performance.now();
    await pause(5_000);
    const after = await stats(page);
    const seconds = (performance.now() - began) / 1_000;
    expect(after.messages).toBeGreaterThan(before.messages);
    expect((after.messages - before.messages) / seconds).toBeLessThanOrEqual(10);
    expect((after.draws - before.draws) / seconds).toBeLessThanOrEqual(10);
  });

  test("has a page for a program: its calls, the critical path, and where its time went, which adds up", async () => {
    const page = await open("/", 1_280, "dark");
    await page.locator("#filter").fill("long-2");
    await page
      .locator(".grid-body a", { hasText: /^long-2$/ })
      .first()
      .click({ timeout: SEEN_MS_MAX });
    await page
      .getByRole("heading", { level: 1, name: "Program long-2", exact: true })
      .waitFor({ timeout: SEEN_MS_MAX });
    // One step of the browser's history, not two.
    await page.goBack();
    await page.locator("#filter").waitFor({ timeout: SEEN_MS_MAX });
    await page.goForward();
    await page.locator(".water-row.on-path .path-mark").first().waitFor({ timeout: SEEN_MS_MAX });
    const shares = await page.locator(".where-list li:not(.zero) .share").allInnerTexts();
    const sum = shares.reduce((all, share) => all + Number.parseInt(share, 10), 0);
    expect(sum).toBeGreaterThanOrEqual(97);
    expect(sum).toBeLessThanOrEqual(103);
    const parts = await page.locator(".where-list").innerText();
    expect(parts).toMatch(/running/);
    // It competes: some of its time is waiting of one kind or another.
    expect(await page.locator(".bar.where-parked, .bar.where-swapped, .bar.where-queue").count()).toBeGreaterThan(0);
    await screenshot(page, "program-1280-dark");
    await page.reload();
    await page
      .getByRole("heading", { level: 1, name: "Program long-2", exact: true })
      .waitFor({ timeout: SEEN_MS_MAX });
    await page.setViewportSize({ width: 400, height: 800 });
    await expectNoSidewaysScroll(page);
    await screenshot(page, "program-400-dark");
  });

  test("plays two policies side by side: short programs wait under fcfs, and pass under plas", async () => {
    const page = await open("/replay", 1_280, "light");
    await page.locator(".player").waitFor({ timeout: SEEN_MS_MAX });
    await pauseAt(page, 0.5);
    expect(await page.locator(".side .badge").allInnerTexts()).toEqual(["fcfs", "plas"]);
    // Chips of the same program have the same colour on both sides.
    const colours = await page
      .locator(".side")
      .evaluateAll((sides) =>
        sides.map((side) => /look-\d+/.exec(side.querySelector('[data-program="sim/long-5"]')?.className ?? "")?.[0]),
      );
    expect(colours[0]).toBeDefined();
    expect(colours[0]).toBe(colours[1]);
    await screenshot(page, "replay-1280-light");
    await pauseAt(page, 1);
    const [fcfs, plas] = await page.locator(".side .facts").allInnerTexts();
    expect(fcfs).toMatch(/20\s+of 20 programs/);
    expect(plas).toMatch(/20\s+of 20 programs/);
    expect(seconds(fcfs)).toBeGreaterThan(3 * seconds(plas));
    // Backwards, too.
    await pauseAt(page, 0.1);
    expect(await page.locator(".side .facts").first().innerText()).toMatch(/0\s+of 20 programs/);
  });

  test("plays a recorded run beside its traffic under another policy", async () => {
    const page = await open("/replay", 1_280, "dark");
    await page.locator(".player").waitFor({ timeout: SEEN_MS_MAX });
    const recorded = await page
      .locator(".replay-form option[value^='recording inputs.']")
      .first()
      .getAttribute("value");
    expect(recorded).toMatch(/^recording inputs\.simulated\.\d+\.jsonl$/);
    await page.getByLabel("Traffic").selectOption(recorded ?? "");
    await page.getByLabel("Left").selectOption(recorded ?? "");
    await page.getByLabel("Right").selectOption("policy fcfs");
    await page.getByRole("button", { name: "Show" }).click();
    await page.locator(".side", { hasText: "inputs.simulated" }).nth(1).waitFor({ timeout: SEEN_MS_MAX });
    await pauseAt(page, 0.6);
    expect(await page.locator(".side .badge").allInnerTexts()).toEqual(["plas", "fcfs"]);
    const [left] = await page.locator(".side .facts").allInnerTexts();
    expect(left).toMatch(/Preemptions\s+[1-9]/);
  });

  test("says in one line what it cannot play", async () => {
    const page = await open("/replay", 1_280, "light");
    await page.locator(".player").waitFor({ timeout: SEEN_MS_MAX });
    await page.locator("summary").click();
    const nonsense = { name: "notes.jsonl", mimeType: "text/plain", buffer: Buffer.from("hello\n") };
    await page.locator("input[type=file]").setInputFiles(nonsense);
    await expect
      .poll(() => page.locator(".alert").textContent(), { timeout: SEEN_MS_MAX })
      .toMatch(/^notes\.jsonl: line 1: /);
    // The browser says so on its console, too.
    expect(problems.splice(0).every((problem) => problem.includes("400"))).toBe(true);
  });

  test("can be used with the keyboard alone", async () => {
    const page = await open("/", 1_280, "light");
    await page.locator(".grid-body [role=row]").first().waitFor({ timeout: SEEN_MS_MAX });
    await page.keyboard.press("/");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("filter");
    await page.keyboard.type("long");
    await expect
      .poll(() => page.locator(".grid-body [role=row]").allInnerTexts())
      .toSatisfy((rows: string[]) => rows.length > 0 && rows.every((row) => row.includes("long")));
    await page.keyboard.press("Escape");
    await page.locator("#filter").blur();
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    expect(await theme()).toBe("light");
    await page.keyboard.press("t");
    expect(await theme()).toBe("dark");
    await page.keyboard.press("?");
    expect(await page.locator("dialog").isVisible()).toBe(true);
    await page.keyboard.press("Escape");
    await page.locator("dialog").waitFor({ state: "hidden" });
    await page.keyboard.press("r");
    await page.getByRole("heading", { level: 1, name: "Replay" }).waitFor();
    await page.locator(".player").waitFor({ timeout: SEEN_MS_MAX });
    await page.keyboard.press("l");
    await page.locator(".stage").waitFor({ timeout: SEEN_MS_MAX });
    // Everything that acts is reached by Tab, and is seen to be.
    const reached: string[] = [];
    for (let i = 0; i < 20; i++) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(focused));
    }
    expect(reached.filter((one) => one.endsWith("invisible"))).toEqual([]);
    expect(new Set(reached).size).toBeGreaterThan(12);
  });

  test.each([
    [1_280, "dark"],
    [1_280, "light"],
    [400, "dark"],
    [400, "light"],
  ] as const)("fits %i pixels, %s, without serious findings of axe", async (width, scheme) => {
    const page = await open("/", width, scheme);
    await page.locator(".chip.slot").first().waitFor({ timeout: SEEN_MS_MAX });
    await pause(1_500); // curves need two samples
    await expectNoSidewaysScroll(page);
    await screenshot(page, `live-${width}-${scheme}`);
    expect(await findings(page)).toEqual([]);
    await page.goto(`${stack.dashboardUrl}/replay`);
    await page.locator(".player").waitFor({ timeout: SEEN_MS_MAX });
    await pauseAt(page, 0.5);
    await expectNoSidewaysScroll(page);
    await screenshot(page, `replay-${width}-${scheme}`);
    expect(await findings(page)).toEqual([]);
    await page.goto(`${stack.dashboardUrl}/pools/simulated/programs/default/long-1`);
    await page.locator(".water-row").first().waitFor({ timeout: SEEN_MS_MAX });
    expect(await findings(page)).toEqual([]);
  });

  test("gets no wider for names of 200 characters without a space", async () => {
    const pool = startPool(stack.natsUrl, LONG_POOL, LONG_NAME);
    const stop = new AbortController();
    const call = { model: LONG_NAME, program: LONG_NAME, thread: LONG_NAME, tokens: LONG_TOKENS };
    const calls = Array.from({ length: 4 }, () => keepSending(call, stop.signal));
    try {
      for (const width of [1_280, 400]) {
        await context?.close();
        const page = await open(`/pools/${LONG_POOL}`, width, "light");
        await page.locator(".chip.slot").first().waitFor({ timeout: SEEN_MS_MAX });
        await page.locator(".happenings b", { hasText: LONG_NAME }).first().waitFor({ timeout: SEEN_MS_MAX });
        // The pool of the other tests is there, too: one can choose.
        await page.locator(".pool-select").waitFor({ timeout: SEEN_MS_MAX });
        await screenshot(page, `long-names-live-${width}`);
        await expectNoSidewaysScroll(page);
        await page.goto(`${stack.dashboardUrl}/pools/${LONG_POOL}/programs/default/${LONG_NAME}`);
        await page.locator(".thread h3", { hasText: LONG_NAME }).waitFor({ timeout: SEEN_MS_MAX });
        await screenshot(page, `long-names-program-${width}`);
        await expectNoSidewaysScroll(page);
        await page.goto(`${stack.dashboardUrl}/pools/${LONG_NAME}`);
        await page.getByRole("heading", { level: 1, name: LONG_NAME }).waitFor({ timeout: SEEN_MS_MAX });
        await expectNoSidewaysScroll(page);
      }
    } finally {
      stop.abort();
      await Promise.all(calls);
      await pool.stop();
    }
  });

  test("says that there is no such pool, and goes on without an error", async () => {
    const page = await open("/pools/nobody", 1_280, "light");
    await page
      .getByRole("heading", { level: 1, name: "No pool is called nobody", exact: true })
      .waitFor({ timeout: SEEN_MS_MAX });
    await page.locator(".status.unknown", { hasText: "there is no such pool" }).waitFor({ timeout: SEEN_MS_MAX });
    await page.goto(`${stack.dashboardUrl}/pools/nobody/programs/default/long-1`);
    await page.locator(".alert", { hasText: "No pool is called nobody, yet." }).waitFor({ timeout: SEEN_MS_MAX });
    await pause(2_500); // it is asked again each second
    expect(await page.locator(".empty").count(), "signs of waiting").toBe(0);
  });

  test("plays with the keyboard after a click on Play", async () => {
    const page = await open("/replay", 1_280, "light");
    await page.locator(".player").waitFor({ timeout: SEEN_MS_MAX });
    await pauseAt(page, 0.3);
    const button = page.locator(".player button");
    const range = page.getByLabel("Time of the replay");
    const speed = page.getByLabel("Speed");
    const at = async () => Number(await range.inputValue());
    const step = Number(await range.getAttribute("max")) * 0.02;
    await button.click();
    await expect.poll(() => button.innerText()).toBe("Pause");
    await page.keyboard.press("Space");
    await expect.poll(() => button.innerText()).toBe("Play");
    const began = await at();
    await page.keyboard.press("ArrowRight");
    await expect.poll(at).toBeGreaterThan(began + step / 2);
    await page.keyboard.press("ArrowLeft");
    await expect.poll(at).toBeLessThan(began + step / 2);
    const slow = Number(await speed.inputValue());
    await page.keyboard.press("+");
    await expect.poll(async () => Number(await speed.inputValue())).toBeGreaterThan(slow);
    await page.keyboard.press("-");
    await expect.poll(async () => Number(await speed.inputValue())).toBe(slow);
    // The slider keeps the focus after a click, too, and the space bar is nothing to it.
    await range.click();
    await page.keyboard.press("Space");
    await expect.poll(() => button.innerText()).toBe("Pause");
    await page.keyboard.press("l");
    await page.getByRole("heading", { level: 1, name: /^Pool / }).waitFor({ timeout: SEEN_MS_MAX });
  });

  test("survives the death of the scheduler and of the dashboard, and says so", async () => {
    const page = await open("/", 1_280, "light");
    await page.locator(".status.live").waitFor({ timeout: SEEN_MS_MAX });
    kill("scheduler-");
    // The new leader's epoch is a happening of its own.
    await page.waitForFunction(hasNewLeader, undefined, { timeout: SEEN_MS_MAX, polling: 100 });
    const other = await context.newPage();
    await other.goto(`${stack.dashboardUrl}/pools/nobody`);
    await other.locator(".status.unknown").waitFor({ timeout: SEEN_MS_MAX });
    kill("dashboard");
    for (const one of [page, other]) await one.locator(".status.lost").waitFor({ timeout: SEEN_MS_MAX });
    await page.locator(".status.live").waitFor({ timeout: SEEN_MS_MAX });
    await other.locator(".status.unknown").waitFor({ timeout: SEEN_MS_MAX });
    await page.locator(".chip.slot").first().waitFor({ timeout: SEEN_MS_MAX });
    // The browser names the lost connection on its console.
    problems.splice(0);
  });

  test("is for this machine's names only, and shows no text", async () => {
    const { port } = new URL(stack.dashboardUrl);
    expect(await statusFor(port, "evil.example")).toBe(403);
    expect(await statusFor(port, `localhost:${port}`)).toBe(200);
    const response = await fetch(stack.dashboardUrl);
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(await stack.logs()).not.toContain(SECRET);
    const answer = await fetch(`${stack.dashboardUrl}/api/pools/simulated/programs/default/long-1`);
    expect(await answer.text()).not.toContain(SECRET);
  });
});

async function open(path: string, width: number, scheme: "light" | "dark"): Promise<Page> {
  context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme });
  const page = await context.newPage();
  page.on("request", (one) => requests.push(one.url()));
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  await page.goto(`${stack.dashboardUrl}${path}`);
  return page;
}

/** One call after the other. */
async function keepSending(call: LoadCall, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    // Until the pool is there, its model is refused.
    await send(stack.urls[0] ?? "", call, signal).catch(() => {});
    await pause(100, undefined, { signal }).catch(() => {});
  }
}

/** Stops the replay at a share of its length. */
async function pauseAt(page: Page, share: number): Promise<void> {
  const button = page.locator(".player button");
  if ((await button.innerText()) === "Pause") await button.click();
  const range = page.getByLabel("Time of the replay");
  const length = Number(await range.getAttribute("max"));
  await range.fill(String(Math.round(length * share)));
  await page.waitForFunction(
    (at) => Math.abs(Number(document.querySelector(".player input")?.value) - at) < 1_000,
    Math.round(length * share),
  );
}

/** Mean of short programs, in s, as the page says it. */
function seconds(facts: string | undefined): number {
  const found = /Short programs\s+([\d.]+) (ms|s)/.exec(facts ?? "");
  return Number(found?.[1] ?? Number.NaN) / (found?.[2] === "ms" ? 1_000 : 1);
}

async function findings(page: Page): Promise<string[]> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, nodes }) =>
        `${id}: ${nodes
          .map(({ html }) => html.slice(0, 160))
          .slice(0, 3)
          .join(" | ")}`,
    );
}

async function expectNoSidewaysScroll(page: Page): Promise<void> {
  const [content, view] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  expect(content, "width of the content").toBeLessThanOrEqual(view ?? 0);
}

async function screenshot(page: Page, name: string): Promise<void> {
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
}

function stats(page: Page): Promise<{ messages: number; draws: number }> {
  return page.evaluate(() => ({
    ...(globalThis as unknown as { autellixStats: { messages: number; draws: number } }).autellixStats,
  }));
}

/** In the page: whether a call was seen in a queue as preempted, and later in a slot. */
function cameBack(): boolean {
  const memory = globalThis as unknown as { left?: Set<string> };
  memory.left ??= new Set();
  const ids = (selector: string) => [...document.querySelectorAll(selector)].map((chip) => chip.dataset.call ?? "");
  for (const id of ids(".chip.queue.parked, .chip.queue.swapped")) memory.left.add(id);
  return ids(".chip.slot").some((id) => memory.left?.has(id));
}

/** In the page: whether such a thing has happened while it was open. */
function hasHappened(kind: string): boolean {
  return document.querySelector(".happenings .counts")?.textContent?.includes(`${kind} `) ?? false;
}

/** In the page: whether another scheduler has begun to lead. */
function hasNewLeader(): boolean {
  return document.querySelector(".happenings .tag.leader") !== null;
}

/** In the page: what has the focus, and whether one sees that. */
function focused(): string {
  const element = document.activeElement;
  if (!element || element === document.body) return "nothing";
  const style = getComputedStyle(element);
  const isSeen = style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) > 0;
  return `${element.tagName} ${element.textContent?.slice(0, 20)}${element.getAttribute("aria-label") ?? ""} ${isSeen ? "visible" : "invisible"}`;
}

function kill(prefix: string): void {
  const found = stack.processes().find(({ name }) => name.startsWith(prefix));
  if (!found) throw new Error(`no process is called ${prefix}…`);
  process.kill(found.pid, "SIGKILL");
}

/** `fetch` lets nobody choose the host. */
function statusFor(port: string, host: string): Promise<number> {
  return new Promise((done, fail) => {
    const asking = request({ host: "127.0.0.1", port, path: "/api/pools", headers: { host } }, (response) => {
      response.resume();
      done(response.statusCode ?? 0);
    });
    asking.on("error", fail);
    asking.end();
  });
}
