/** `autellix top`: the pools, live, until it is told to stop. */
import { setTimeout as sleep } from "node:timers/promises";
import { PoolsWatch } from "@autellix/protocol";
import { ReadableError } from "../../usage.ts";
import { knownPools } from "../listing.ts";
import { connect, shownUrl } from "../nats.ts";
import { type ObserveOptions, SORT_KEYS, type SortKey } from "../options.ts";
import { Letters } from "./letters.ts";
import { Rates } from "./rates.ts";
import { type TopPool, topLines } from "./screen.ts";
import { type Key, Terminal } from "./terminal.ts";

/** After a key or another size the picture is drawn at once, but not more often than this. */
const REDRAW_MS_MIN = 50;
/** The first picture does not wait for a whole period. */
const FIRST_MS = 250;
const SCROLL_PAGE_ROWS = 10;
/** A problem that lasts is told again and again; one that was not is over. */
const PROBLEM_MS = 10_000;
/** Programs of each pool in a line of JSON, the busiest ones. */
const JSON_PROGRAMS_MAX = 50;

/** @returns the exit code. @throws ReadableError when it has no terminal to draw on. */
export async function topCommand(options: ObserveOptions): Promise<number> {
  const { stdin, stdout } = process;
  if (!options.json && !(stdin.isTTY && stdout.isTTY))
    throw new ReadableError("top needs a terminal; elsewhere use ps, or top --json");
  let problem = { text: "", atMs: Number.NEGATIVE_INFINITY };
  const onProblem = (text: string) => {
    problem = { text, atMs: performance.now() };
  };
  const bus = await connect(options.nats, "top");
  if (options.pools.length > 0)
    await knownPools(bus, options.pools).catch(async (error) => {
      await bus.nc.close();
      throw error;
    });
  const watch = new PoolsWatch(bus, {
    ...(options.pools.length > 0 ? { pools: options.pools } : {}),
    onProblem,
    watch: () => ({ onProblem }),
  });
  try {
    const pools = (): TopPool[] =>
      [...watch.pools.values()]
        .sort((a, b) => (a.pool < b.pool ? -1 : 1))
        .map(({ pool, picture, hasLeader }) => ({ pool, picture, hasLeader }));
    if (options.json) return await printed(options, pools);
    const terminal = new Terminal(stdin, stdout);
    const connection = () => {
      if (bus.nc.isClosed()) return "the connection to NATS is closed";
      return performance.now() - problem.atMs < PROBLEM_MS ? problem.text : undefined;
    };
    return await new Top(options, terminal, pools, connection).run();
  } finally {
    watch.stop();
    await bus.nc.close();
  }
}

/** One line of JSON for each picture, until the reader leaves. */
async function printed({ everyMs, count }: ObserveOptions, pools: () => TopPool[]): Promise<number> {
  const stop = new AbortController();
  const end = () => stop.abort();
  process.once("SIGINT", end).once("SIGTERM", end);
  for (let number = 0; number < count; number++) {
    await sleep(everyMs, undefined, { signal: stop.signal }).catch(() => {}); // it was woken to end
    if (stop.signal.aborted) break;
    const seen = pools().map(({ pool, picture, hasLeader }) => ({
      ...picture?.pool,
      pool,
      hasLeader,
      engines: [...(picture?.engines.values() ?? [])],
      busiest: [...(picture?.programs.values() ?? [])]
        .sort(
          (a, b) => b.calls.running - a.calls.running || b.calls.waiting - a.calls.waiting || b.serviceMs - a.serviceMs,
        )
        .slice(0, JSON_PROGRAMS_MAX),
    }));
    process.stdout.write(`${JSON.stringify({ schema: 1, command: "top", atMs: Date.now(), pools: seen })}\n`);
  }
  return 0;
}

class Top {
  readonly #options: ObserveOptions;
  readonly #terminal: Terminal;
  readonly #pools: () => TopPool[];
  readonly #problem: () => string | undefined;
  readonly #rates = new Rates();
  readonly #letters = new Letters();
  #sort: SortKey;
  #offset = 0;
  #drawn = 0;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #finish: (result: { exitCode: number } | { error: unknown }) => void = () => {};

  constructor(options: ObserveOptions, terminal: Terminal, pools: () => TopPool[], problem: () => string | undefined) {
    this.#options = options;
    this.#terminal = terminal;
    this.#pools = pools;
    this.#problem = problem;
    this.#sort = options.sort ?? "calls";
  }

  async run(): Promise<number> {
    const ended = new Promise<{ exitCode: number } | { error: unknown }>((resolve) => {
      this.#finish = resolve;
    });
    try {
      this.#terminal.open({
        onKey: (key) => this.#typed(key),
        onResize: () => this.#soon(REDRAW_MS_MIN),
        onEnd: (exitCode) => this.#finish({ exitCode }),
      });
      this.#soon(FIRST_MS);
      const result = await ended;
      if ("error" in result) throw result.error;
      return result.exitCode;
    } finally {
      clearTimeout(this.#timer);
      this.#terminal.close();
    }
  }

  #typed(key: Key): void {
    switch (key) {
      case "quit":
        this.#finish({ exitCode: 0 });
        return;
      case "sort":
        this.#sort = SORT_KEYS[(SORT_KEYS.indexOf(this.#sort) + 1) % SORT_KEYS.length] as SortKey;
        this.#offset = 0;
        break;
      case "home":
        this.#offset = 0;
        break;
      default: {
        const rows = key === "up" || key === "down" ? 1 : SCROLL_PAGE_ROWS;
        const programs = this.#pools().reduce((sum, { picture }) => sum + (picture?.programs.size ?? 0), 0);
        this.#offset = Math.max(
          0,
          Math.min(programs, this.#offset + (key === "up" || key === "page up" ? -rows : rows)),
        );
      }
    }
    this.#soon(Math.max(0, REDRAW_MS_MIN - (performance.now() - this.#drawnAt)));
  }

  #soon(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      try {
        this.#draw();
      } catch (error) {
        this.#finish({ error });
      }
    }, ms);
  }

  #draw(): void {
    const pools = this.#pools();
    const engines = new Set<string>();
    for (const { picture } of pools) {
      for (const engine of picture?.engines.values() ?? []) {
        engines.add(engine.engine);
        this.#rates.see(engine, picture?.atMs ?? 0);
      }
    }
    this.#rates.keep(engines);
    this.#letters.begin();
    const view = {
      url: shownUrl(this.#options.nats),
      clock: new Date().toTimeString().slice(0, 8),
      pools,
      sort: this.#sort,
      offset: this.#offset,
      rateOf: (engine: string) => this.#rates.of(engine),
      letters: this.#letters,
      problem: this.#problem(),
      colors: this.#options.colors,
    };
    this.#terminal.draw(topLines(view, this.#terminal.size));
    this.#drawnAt = performance.now();
    if (++this.#drawn >= this.#options.count) this.#finish({ exitCode: 0 });
    else this.#soon(this.#options.everyMs);
  }
}
