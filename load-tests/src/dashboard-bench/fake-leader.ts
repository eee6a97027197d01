/**
 * A leader that only shows: a pool of many programs, calls and engines that changes at a given rate, told over NATS as a
 * real leader tells it. What a dashboard costs depends on that alone, so it can be measured without engines.
 */
import {
  type Bus,
  CHANGES_EVERY_MS,
  encode,
  listen,
  send,
  subjects,
  type ViewAsk,
  type ViewCall,
  type ViewChanges,
  type ViewEngine,
  type ViewPage,
  type ViewPool,
  type ViewProgram,
  viewAskSchema,
} from "@autellix/protocol";
import { createRandom } from "../random.ts";

export interface FakeLeaderOptions {
  bus: Bus;
  pool: string;
  seed: number;
  programs: number;
  engines: number;
  /** Of each engine. */
  batchCallsMax: number;
  /** Calls that change their state, come or end. */
  changesPerS: number;
}

const LEVELS = 7;
const PAGE_ITEMS = 500;
const STATUS_EVERY_MS = 250;
const FIRST_LEVEL_MS = 1_000;
/** Calls that wait, for each slot. */
const WAITING_PER_SLOT = 4;
const TENANTS = 5;

export class FakeLeader {
  private readonly options: FakeLeaderOptions;
  private readonly random;
  private readonly programs: ViewProgram[] = [];
  private readonly calls = new Map<string, ViewCall>();
  private readonly engines: ViewEngine[] = [];
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly subscription;
  private number = 0;
  private made = 0;
  private owed = 0;
  private ended = 0;
  private preemptions = 0;
  private demotions = 0;
  /** Changes that were told. */
  changes = 0;

  constructor(options: FakeLeaderOptions) {
    this.options = options;
    this.random = createRandom(options.seed);
    this.fill();
    const { bus, pool } = options;
    this.subscription = listen(
      bus,
      subjects.view(pool),
      viewAskSchema,
      (ask, raw) => raw.respond(encode(this.page(ask))),
      () => {},
    );
    this.timers.push(setInterval(() => this.step(), CHANGES_EVERY_MS));
    this.timers.push(setInterval(() => this.status(), STATUS_EVERY_MS));
    this.status();
  }

  stop(): void {
    for (const timer of this.timers) clearInterval(timer);
    this.subscription.unsubscribe();
  }

  private fill(): void {
    const { programs, engines, batchCallsMax } = this.options;
    const now = Date.now();
    for (let i = 0; i < programs; i++) this.programs.push(this.program(i, now));
    for (let i = 0; i < engines; i++) this.engines.push(engine(`gpu-${i}`, batchCallsMax));
    const gone = noChanges(this.pool(), now);
    for (let i = 0; i < engines * batchCallsMax * (1 + WAITING_PER_SLOT); i++) this.arrive(gone, now);
    for (const one of this.engines) while (one.run.length < batchCallsMax && this.start(one, gone, now));
  }

  private program(i: number, now: number): ViewProgram {
    const { random } = this;
    const ended = random.int(0, 40);
    const serviceMs = random.exponential(4_000) * (1 + ended);
    return {
      tenant: `team-${i % TENANTS}`,
      program: `${["chat", "agent", "research", "summary"][i % 4]}-${i}`,
      state: "open",
      serviceMs,
      waitingMs: random.exponential(8_000) * (1 + ended),
      attained: serviceMs,
      level: levelOf(serviceMs),
      calls: { waiting: 0, running: 0, ended },
      startedAtMs: now - random.int(1, 3_000_000),
      lastAtMs: now - random.int(1, 1_000_000),
    };
  }

  // ── changes ────────────────────────────────────────────────────────────────────────────────────────────────

  private step(): void {
    const now = Date.now();
    const changes = noChanges(this.pool(), now);
    const touched = new Set<ViewEngine>();
    this.owed += (this.options.changesPerS * CHANGES_EVERY_MS) / 1_000;
    while (this.owed >= 1) {
      this.owed--;
      this.changes++;
      this.change(changes, touched, now);
    }
    changes.engines.push(...touched);
    changes.pool = this.pool();
    changes.number = ++this.number;
    send(this.options.bus, subjects.events(this.options.pool), changes);
  }

  /** An arrival, an end with its successor, or a preemption. */
  private change(changes: ViewChanges, touched: Set<ViewEngine>, now: number): void {
    const { random } = this;
    const one = this.engines[random.int(0, this.engines.length - 1)];
    if (!one) return;
    const kind = random.int(0, 9);
    const waiting = this.calls.size - this.running();
    if (kind < 4 && waiting < this.options.engines * this.options.batchCallsMax * WAITING_PER_SLOT) {
      this.arrive(changes, now);
      return;
    }
    touched.add(one);
    const leaving = one.run[random.int(0, Math.max(0, one.run.length - 1))];
    const call = leaving === undefined ? undefined : this.calls.get(leaving);
    if (call && kind < 8) this.end(one, call, changes, now);
    else if (call) this.preempt(one, call, changes);
    this.start(one, changes, now);
  }

  private running(): number {
    return this.engines.reduce((sum, { run }) => sum + run.length, 0);
  }

  private arrive(changes: ViewChanges, now: number): void {
    const program = this.programs[this.random.int(0, this.programs.length - 1)];
    if (!program) return;
    const call: ViewCall = {
      call: `${program.tenant}/call-${++this.made}`,
      program: program.program,
      state: "waiting",
      level: program.level,
      attempt: 1,
      arrivedAtMs: now,
      waitingMs: 0,
      serviceMs: 0,
      promptTokens: this.random.int(20, 4_000),
      completionTokens: 0,
    };
    this.calls.set(call.call, call);
    changes.calls.push(call);
    program.calls.waiting++;
    program.lastAtMs = now;
    changes.programs.push({ ...program, calls: { ...program.calls } });
  }

  private end(one: ViewEngine, call: ViewCall, changes: ViewChanges, now: number): void {
    one.run = one.run.filter((id) => id !== call.call);
    this.calls.delete(call.call);
    this.ended++;
    changes.gone.calls.push(call.call);
    const program = this.programOf(call);
    if (!program) return;
    program.calls.running = Math.max(0, program.calls.running - 1);
    program.calls.ended++;
    program.serviceMs += call.serviceMs + this.random.exponential(2_000);
    program.attained = program.serviceMs;
    program.level = levelOf(program.attained);
    program.waitingMs += now - call.arrivedAtMs;
    program.lastAtMs = now;
    changes.programs.push({ ...program, calls: { ...program.calls } });
  }

  private preempt(one: ViewEngine, call: ViewCall, changes: ViewChanges): void {
    one.run = one.run.filter((id) => id !== call.call);
    this.preemptions++;
    this.demotions++;
    const isSwapped = this.random.int(0, 2) === 0;
    call.state = isSwapped ? "swapped" : "parked";
    call.level = Math.min(LEVELS - 1, call.level + 1);
    one.keep = [{ call: call.call, tier: isSwapped ? ("host" as const) : ("engine" as const) }, ...one.keep].slice(
      0,
      12,
    );
    changes.calls.push({ ...call });
  }

  private start(one: ViewEngine, changes: ViewChanges, now: number): boolean {
    if (one.run.length >= one.info.batchCallsMax) return false;
    let best: ViewCall | undefined;
    let looked = 0;
    for (const call of this.calls.values()) {
      if (call.state === "running") continue;
      if (!best || call.level < best.level) best = call;
      if (++looked > 50) break;
    }
    if (!best) return false;
    const chosen = best;
    for (const other of this.engines) other.keep = other.keep.filter(({ call }) => call !== chosen.call);
    chosen.state = "running";
    chosen.engine = one.engine;
    chosen.waitingMs = now - chosen.arrivedAtMs;
    one.run = [...one.run, chosen.call];
    changes.calls.push({ ...chosen });
    const program = this.programOf(chosen);
    if (!program) return true;
    program.calls.waiting = Math.max(0, program.calls.waiting - 1);
    program.calls.running++;
    changes.programs.push({ ...program, calls: { ...program.calls } });
    return true;
  }

  private programOf({ program }: ViewCall): ViewProgram | undefined {
    return this.programs[Number(program.slice(program.lastIndexOf("-") + 1))];
  }

  // ── pages ──────────────────────────────────────────────────────────────────────────────────────────────────

  private page(ask: ViewAsk): ViewPage {
    const page: ViewPage = { pool: this.pool(), number: this.number, atMs: Date.now() };
    if (ask.op === "watch") return page;
    const from = Number(ask.from ?? 0);
    const all = { programs: this.programs, calls: [...this.calls.values()], engines: this.engines }[ask.what];
    const next = from + PAGE_ITEMS < all.length ? { next: String(from + PAGE_ITEMS) } : {};
    return { ...page, [ask.what]: all.slice(from, from + PAGE_ITEMS), ...next };
  }

  private pool(): ViewPool {
    const waitingByLevel = Array.from({ length: LEVELS }, () => 0);
    let running = 0;
    for (const call of this.calls.values()) {
      if (call.state === "running") running++;
      else waitingByLevel[call.level] = (waitingByLevel[call.level] ?? 0) + 1;
    }
    return {
      pool: this.options.pool,
      epoch: 1,
      leader: "fake",
      policy: "plas",
      waitingByLevel,
      levelBoundsMs: Array.from({ length: LEVELS - 1 }, (_, i) => FIRST_LEVEL_MS * 2 ** i),
      queuedCalls: this.calls.size,
      runningCalls: running,
      queuedCallsMax: 10_000,
      programs: this.programs.length,
      endsPerSecond: this.options.changesPerS * 0.4,
      dispatching: true,
      totals: {
        demotions: this.demotions,
        promotions: 0,
        preemptions: this.preemptions,
        ended: this.ended,
        failovers: 0,
      },
    };
  }

  /** By it dashboards know that there is such a pool. */
  private status(): void {
    const { bus, pool } = this.options;
    const { queuedCalls, runningCalls, queuedCallsMax, endsPerSecond, dispatching, epoch, policy } = this.pool();
    send(bus, subjects.status(pool), {
      ...{ pool, epoch, policy, models: [pool], queuedCalls, runningCalls, queuedCallsMax, endsPerSecond, dispatching },
      engines: [],
    });
  }
}

function noChanges(pool: ViewPool, atMs: number): ViewChanges {
  return {
    pool,
    number: 0,
    atMs,
    programs: [],
    calls: [],
    engines: [],
    gone: { programs: [], calls: [], engines: [] },
  };
}

function engine(name: string, batchCallsMax: number): ViewEngine {
  const kvBlocks = batchCallsMax * 64;
  return {
    engine: name,
    incarnation: "1",
    state: "up",
    info: {
      kind: "simulated",
      models: ["fake"],
      preemption: "swap",
      batchCallsMax,
      residentCallsMax: batchCallsMax * 2,
      heldCallsMax: batchCallsMax * 4,
      kvBlocks,
      blockTokens: 16,
      contextTokensMax: 8_192,
      hostBlocks: kvBlocks,
      retains: true,
    },
    run: [],
    reserve: [],
    keep: [],
    retained: [],
    counters: { steps: 0, stepCalls: 0, busyMs: 0, tokens: 0, batchMax: 0 },
    kv: { running: kvBlocks >> 1, parked: kvBlocks >> 3, retained: kvBlocks >> 4, host: kvBlocks >> 2 },
  };
}

function levelOf(attainedMs: number): number {
  let level = 0;
  while (level < LEVELS - 1 && attainedMs >= FIRST_LEVEL_MS * 2 ** level) level++;
  return level;
}
