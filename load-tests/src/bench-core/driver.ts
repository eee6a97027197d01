/**
 * Drives `Scheduler.apply` with a constant number of queued calls, as a service with an ideal agent and ideal clients
 * would: a window runs, its report comes, what is due is planned, and each ended call is replaced by its program's next
 * one, or by the first call of a new program. Every call must be acked exactly once; a broken rule throws.
 *
 * What it does itself must be cheap and must not fill the heap: it keeps a few numbers per program in typed arrays.
 */
import {
  type ArrivedCall,
  type CallId,
  type Command,
  callId,
  type Input,
  type ProgramId,
  policies,
  programId,
  type SavedEntry,
} from "@autellix/core";
import { createRandom, type Random } from "../random.ts";
import { Agent, ENGINE, INCARNATION } from "./agent.ts";
import { IdWriter, placeOf } from "./ids.ts";
import { type CoreLoad, capacityOf, PROMPT_TOKENS_MAX, PROMPT_TOKENS_MEAN, windowMs } from "./load.ts";
import { type CoreMs, Timings } from "./timings.ts";

/** Where the leader's clock stands: ms since 1970, with fractions, as in the service. */
const START_MS = 1_764_000_000_000.4375;
/** Period of `timePassed`, as in the service. */
const TICK_MS = 250;
/** Windows differ in length by this share. */
const WINDOW_JITTER = 0.2;
/** Share of a window in which its arrivals come. */
const ARRIVALS_SHARE = 0.25;
const CALL_IDS = 1;
const PROGRAM_IDS = 2;

/** What is driven: the core, or a stand-in of a test. */
export interface Core {
  apply(input: Input): Command[];
}

export class Driver {
  readonly timings = new Timings();
  readonly agent: Agent;
  readonly #core: Core;
  readonly #load: CoreLoad;
  readonly #random: Random;
  readonly #callIds = new IdWriter(CALL_IDS);
  readonly #programIds = new IdWriter(PROGRAM_IDS);
  readonly #windowMs: number;
  // By place: each has one program, with one call in the core.
  readonly #programs: Uint32Array;
  readonly #callsLeft: Uint16Array;
  readonly #promptTokens: Uint16Array;
  /** Sequence of the place's call; 0 when it has none. */
  readonly #openSeqs: Uint32Array;
  /** Places whose call has been acked and not been replaced. */
  #vacant: number[] = [];
  #outcomes: Input[] = [];
  #seq = 0;
  #programCount = 0;
  #at = START_MS;
  #tickAt = START_MS;
  #wakeAt = Number.POSITIVE_INFINITY;
  #planDue = false;

  constructor(core: Core, load: CoreLoad) {
    this.#core = core;
    this.#load = load;
    this.#random = createRandom(load.seed);
    this.#windowMs = windowMs(load);
    const places = load.queuedCalls + load.batchCallsMax;
    this.#programs = new Uint32Array(places);
    this.#callsLeft = new Uint16Array(places);
    this.#promptTokens = new Uint16Array(places);
    this.#openSeqs = new Uint32Array(places);
    this.agent = new Agent({
      heldCallsMax: capacityOf(load).heldCallsMax,
      windowSteps: load.windowSteps,
      windows: () => this.#random.geometric(load.windowsPerCall),
      promptTokens: (call) => this.#promptTokens[placeOf(call)] ?? 0,
    });
  }

  /** Calls in the core. */
  get openCalls(): number {
    return this.timings.counts.arrived - this.timings.counts.acked;
  }

  /**
   * Fills the queue as a turnover's arrivals leave it, with programs that are anywhere between their first call and
   * their last; then the first plan.
   */
  fill(): void {
    const places = this.#programs.length;
    this.#at = START_MS - this.#load.turnoverMs;
    const capacity = capacityOf(this.#load);
    this.#feed("other", [
      { kind: "engineJoined", at: this.#at, engine: ENGINE, incarnation: INCARNATION, capacity },
      { kind: "leaderStarted", at: this.#at },
    ]);
    for (let place = 0; place < places; place++) {
      this.#at += this.#load.turnoverMs / places;
      const ended = this.#random.int(0, this.#load.callsPerProgram - 1);
      this.#newProgram(place);
      this.#callsLeft[place] = this.#load.callsPerProgram - ended;
      const inputs: Input[] = [this.#arrival(place, this.#at)];
      if (ended > 0) inputs.unshift(this.#past(place, ended));
      this.#feed("arrivals", inputs);
    }
    this.#at = Math.max(this.#at, START_MS);
    this.#plan();
  }

  /** One window: steps, report, plan, arrivals, plan. @param replace false: nothing arrives, so the queue drains. */
  window(replace = true): void {
    const ms = this.#windowMs * (1 + WINDOW_JITTER * (this.#random.next() - 0.5));
    this.#at = Math.max(this.#at, this.#windowEndsAt(ms));
    this.agent.runWindow(ms, this.#at);
    this.timings.counts.windows++;
    this.#feed("reports", [{ kind: "reported", at: this.#at, report: this.agent.report() }]);
    if (this.#planDue) this.#plan();
    this.#tick();
    if (replace) this.#replace(ms);
  }

  // ── what comes in ──────────────────────────────────────────────────────────────────────────────────────────────

  #lastWindowAt = START_MS;

  #windowEndsAt(ms: number): number {
    this.#lastWindowAt += ms;
    return this.#lastWindowAt;
  }

  #replace(ms: number): void {
    const vacant = this.#vacant;
    this.#vacant = [];
    const moments = this.#load.arrivalMoments;
    for (let moment = 0; moment < moments; moment++) {
      const inputs: Input[] = [];
      const end = Math.floor((vacant.length * (moment + 1)) / moments);
      for (let i = Math.floor((vacant.length * moment) / moments); i < end; i++) {
        this.#at += (ms * ARRIVALS_SHARE) / vacant.length;
        const place = vacant[i] ?? 0;
        if (this.#callsLeft[place] === 0) inputs.push(...this.#nextProgram(place));
        inputs.push(this.#arrival(place, this.#at));
      }
      this.#feed("arrivals", inputs);
      if (this.#planDue) this.#plan();
    }
  }

  #newProgram(place: number): void {
    this.#programs[place] = ++this.#programCount;
    this.#callsLeft[place] = this.#load.callsPerProgram;
  }

  #programOf(place: number): ProgramId {
    return programId(this.#programIds.write(this.#programs[place] ?? 0, place));
  }

  /** The place's program has had its last call; another one takes its place. */
  #nextProgram(place: number): Input[] {
    const ended = this.#programOf(place);
    this.#newProgram(place);
    if (!this.#load.startsPrograms) return [];
    return [
      { kind: "programEnded", at: this.#at, program: ended, cancel: false },
      { kind: "programStarted", at: this.#at, program: this.#programOf(place) },
    ];
  }

  #arrival(place: number, at: number): Input {
    const { deadlineMs } = this.#load;
    const promptTokens = Math.min(PROMPT_TOKENS_MAX, 1 + Math.floor(this.#random.exponential(PROMPT_TOKENS_MEAN)));
    const seq = ++this.#seq;
    this.#promptTokens[place] = promptTokens;
    this.#openSeqs[place] = seq;
    this.#callsLeft[place] = (this.#callsLeft[place] ?? 0) - 1;
    this.timings.counts.arrived++;
    // The stream's timestamp has whole ms.
    const arrivedAt = Math.floor(at);
    const call: ArrivedCall = {
      id: callId(this.#callIds.write(seq, place)),
      seq,
      program: this.#programOf(place),
      arrivedAt,
      deadlineAt: arrivedAt + deadlineMs,
      promptTokens,
    };
    return { kind: "callArrived", at, call };
  }

  /** A program with `ended` calls behind it, as a take-over restores it. */
  #past(place: number, ended: number): Input {
    const { policy, turnoverMs, windowSteps, windowsPerCall } = this.#load;
    const serviceMs = ended * windowsPerCall * this.#windowMs;
    const waitingMs = ended * turnoverMs;
    const restored: SavedEntry = {
      program: this.#programOf(place),
      serviceMs,
      waitingMs,
      attained: policies[policy].measures === "time" ? serviceMs : ended * windowsPerCall * windowSteps,
      pathServiceMs: serviceMs,
      pathWaitingMs: waitingMs,
      endedCalls: ended,
      endedAt: undefined,
      pin: undefined,
      engines: [ENGINE],
      arrivedAt: this.#at - serviceMs - waitingMs,
      lastArrivalAt: this.#at - turnoverMs,
      lastCompletionAt: this.#at,
      charged: [],
    };
    return { kind: "programStarted", at: this.#at, program: restored.program, restored };
  }

  #tick(): void {
    if (this.#at < this.#tickAt && this.#at < this.#wakeAt) return;
    const woken = this.#at >= this.#wakeAt;
    this.#tickAt = this.#at + TICK_MS;
    if (woken) this.#wakeAt = Number.POSITIVE_INFINITY;
    this.#feed("other", [{ kind: "timePassed", at: this.#at }]);
    if (woken || this.#planDue) this.#plan();
  }

  // ── the core ───────────────────────────────────────────────────────────────────────────────────────────────────

  #feed(part: keyof CoreMs, inputs: readonly Input[]): void {
    const outputs = this.timings.apply(this.#core, part, inputs);
    for (const commands of outputs) for (const command of commands) this.#carry(command);
    if (this.#outcomes.length === 0) return;
    const seen = this.#outcomes;
    this.#outcomes = [];
    this.#feed("other", seen);
  }

  #plan(): void {
    this.#planDue = false;
    const commands = this.timings.plan(this.#core, { kind: "planDue", at: this.#at });
    for (const command of commands) this.#carry(command);
  }

  #carry(command: Command): void {
    const { counts } = this.timings;
    switch (command.kind) {
      case "sendPlan":
        counts.plans++;
        this.agent.take(command.plan, this.#at);
        break;
      case "ack":
        this.#acked(command.call, command.seq);
        break;
      case "saveEntry":
        counts.saved++;
        break;
      case "wakeAt":
        if (command.at <= this.#at) this.#planDue = true;
        else this.#wakeAt = Math.min(this.#wakeAt, command.at);
        break;
      case "writeOutcome":
        counts.closed++;
        this.#outcomes.push({ kind: "outcomeSeen", at: this.#at, call: command.call, status: command.status });
        break;
      case "writeMarker":
      case "deadLetter":
        throw new Error(`${command.kind} of ${command.call}, but nothing was lost`);
    }
  }

  #acked(call: CallId, seq: number): void {
    const place = placeOf(call);
    if (this.#openSeqs[place] !== seq) throw new Error(`call ${call} (${seq}) is acked twice, or was never offered`);
    this.#openSeqs[place] = 0;
    this.#vacant.push(place);
    this.timings.counts.acked++;
  }
}
