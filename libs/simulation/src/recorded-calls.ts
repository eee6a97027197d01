/** The traffic in an input log: which calls came when, how large they were, and when they ended. */
import type {
  ArrivedCall,
  CallId,
  EngineCapacity,
  EngineId,
  FinishedCall,
  Input,
  Millis,
  TerminalStatus,
} from "@autellix/core";
import type { TracedCall } from "@autellix/protocol/call-trace";

/** A log is of one pool, which serves one model; its name is not in it. */
const RECORDED_MODEL = "recorded";
/** Tokens, blocks or calls: what is beyond it is damage. */
const COUNT_MAX = 2 ** 40;
/** In the year 2248, as Unix time; what is beyond it is damage. ms */
const AT_MAX = 2 ** 43;

export interface RecordedCall {
  id: CallId;
  /** `<tenant>/<program>`. */
  program: string;
  thread: string | undefined;
  parents: readonly CallId[];
  /** When the scheduler read it. ms on the leader's clock, as all times here */
  arrivedAt: Millis;
  /** As its engine counted it, else the estimate with which it arrived. */
  promptTokens: number;
  /** Of the answer; 0 while no engine has begun it. */
  decodeTokens: number;
  /** When the scheduler read that it had ended; undefined while the log does not say so. */
  endedAt: Millis | undefined;
  status: TerminalStatus | undefined;
}

/** Collects calls from inputs, in their order. A call that comes again, after a take-over or a redelivery, is one. */
export class RecordedCalls {
  private readonly calls = new Map<CallId, RecordedCall>();
  private readonly joined = new Set<EngineId>();
  /** A leader's clock is monotonic. */
  private heardAt: Millis = 0;
  /** Engines at one time, at most. */
  enginesMax = 0;
  /** What the first engine could do; the engines of a pool are alike. */
  capacity: EngineCapacity | undefined;

  /** @throws RangeError for an input whose numbers no call, engine or clock can have: the log is damaged. */
  hear(input: Input): void {
    if (!(input.at >= this.heardAt && input.at <= AT_MAX))
      throw new RangeError(`at must be a time of ${this.heardAt} (the input before) to ${AT_MAX}, not ${input.at}`);
    this.heardAt = input.at;
    switch (input.kind) {
      case "callArrived":
        if (!this.calls.has(input.call.id)) this.calls.set(input.call.id, newCall(input.call, input.at));
        break;
      case "engineJoined":
        this.joined.add(input.engine);
        this.capacity ??= checkedCapacity(input.capacity);
        this.enginesMax = Math.max(this.enginesMax, this.joined.size);
        break;
      case "engineLost":
        this.joined.delete(input.engine);
        break;
      case "reported":
        for (const { call, contextTokens } of input.report.calls) this.grown(call, contextTokens);
        for (const finished of input.report.finished) this.finished(finished, input.at);
        break;
      case "outcomeSeen":
        this.ended(input.call, input.status, input.at);
        break;
    }
  }

  /** In the order of their arrival. */
  all(): RecordedCall[] {
    return [...this.calls.values()];
  }

  private grown(id: CallId, contextTokens: number): void {
    const call = this.calls.get(id);
    checkCount("contextTokens", contextTokens);
    if (call && contextTokens > call.promptTokens) call.decodeTokens = contextTokens - call.promptTokens;
  }

  /** The counts of the answer are in a log beside what the core reads. */
  private finished(finished: FinishedCall, at: Millis): void {
    const call = this.calls.get(finished.call);
    const { contextTokens, completionTokens } = finished;
    if (contextTokens !== undefined) checkCount("contextTokens", contextTokens);
    if (completionTokens !== undefined) checkCount("completionTokens", completionTokens, 0, contextTokens);
    if (call?.endedAt === undefined && call && contextTokens !== undefined) {
      call.decodeTokens = completionTokens ?? Math.max(0, contextTokens - call.promptTokens);
      call.promptTokens = contextTokens - call.decodeTokens;
    }
    this.ended(finished.call, finished.status, at);
  }

  private ended(id: CallId, status: TerminalStatus, at: Millis): void {
    const call = this.calls.get(id);
    if (!call || call.endedAt !== undefined) return;
    call.endedAt = at;
    call.status = status;
  }
}

function newCall({ id, program, thread, parents = [], promptTokens }: ArrivedCall, at: Millis): RecordedCall {
  checkCount("promptTokens", promptTokens);
  if (!Array.isArray(parents)) throw new RangeError("parents must be a list");
  const ended = { decodeTokens: 0, endedAt: undefined, status: undefined };
  return { id, program, thread, parents, arrivedAt: at, promptTokens, ...ended };
}

function checkedCapacity(capacity: EngineCapacity): EngineCapacity {
  for (const field of ["batchCallsMax", "residentCallsMax", "kvBlocks", "blockTokens"] as const)
    checkCount(field, capacity[field], 1);
  checkCount("hostBlocks", capacity.hostBlocks ?? 0);
  return capacity;
}

/** Of what a log says: nothing has checked it before. */
function checkCount(field: string, value: unknown, min = 0, max = COUNT_MAX): void {
  const isCount = typeof value === "number" && Number.isInteger(value) && value >= min && value <= max;
  if (!isCount)
    throw new RangeError(`${field} must be a whole number of ${min} to ${max}, not ${JSON.stringify(value)}`);
}

/**
 * The same as a frontend would have traced it, for `programsOfTrace`.
 *
 * @returns `unfinishedCalls`: calls that had not ended when the log did; nobody knows how long they became.
 */
export function traceOf(calls: readonly RecordedCall[]): { calls: TracedCall[]; unfinishedCalls: number } {
  const startedAt = calls[0]?.arrivedAt ?? 0;
  const traced = calls.flatMap(({ endedAt, status, thread, parents, arrivedAt, ...call }): TracedCall[] => {
    if (endedAt === undefined || status === undefined) return [];
    return [
      {
        call: call.id,
        program: call.program,
        ...(thread === undefined ? {} : { thread }),
        ...(parents.length > 0 ? { parents: [...parents] } : {}),
        model: RECORDED_MODEL,
        status,
        arrivedAtMs: arrivedAt - startedAt,
        endedAtMs: endedAt - startedAt,
        promptTokens: call.promptTokens,
        completionTokens: call.decodeTokens,
      },
    ];
  });
  return { calls: traced, unfinishedCalls: calls.length - traced.length };
}
