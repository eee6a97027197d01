/** One example of every internal message, as full as it can be. A changed one needs a new name: its bytes are kept. */
import type { z } from "zod";
import {
  agentMessageSchema,
  askSchema,
  beatSchema,
  confirmSchema,
  controlAnswerSchema,
  controlSchema,
  frontendMessageSchema,
  gapAnswerSchema,
  haveAnswerSchema,
  planSchema,
  statusSchema,
  viewAskSchema,
  viewChangesSchema,
  viewPageSchema,
} from "../src/index.ts";

interface Example {
  schema: z.ZodType;
  message: Record<string, unknown>;
}

const counters = { steps: 1_200, stepCalls: 4_100, busyMs: 90_000.25, tokens: 4_000, batchMax: 8 };

const viewPool = {
  pool: "main",
  epoch: 41,
  leader: "scheduler-1",
  policy: "plas",
  waitingByLevel: [3, 1, 0],
  levelBoundsMs: [250.5, 751.5],
  queuedCalls: 17,
  runningCalls: 8,
  queuedCallsMax: 10_000,
  programs: 12,
  endsPerSecond: 3.5,
  dispatching: false,
  reason: "the outcomes stream is 80 % full",
  totals: { demotions: 4, promotions: 1, preemptions: 2, ended: 99, failovers: 1 },
};
const viewCall = {
  call: "default/call-1",
  program: "research agent – 日本",
  thread: "branch-2",
  state: "parked",
  level: 2,
  engine: "engine-1",
  attempt: 2,
  arrivedAtMs: 1_764_000_000_000.25,
  waitingMs: 800.5,
  serviceMs: 120.25,
  promptTokens: 210,
  completionTokens: 40,
};
const viewProgram = {
  tenant: "default",
  program: "research agent – 日本",
  state: "open",
  serviceMs: 820.25,
  waitingMs: 33,
  attained: 410.5,
  level: 1,
  calls: { waiting: 1, running: 1, ended: 5 },
  startedAtMs: 1_764_000_000_000.25,
  lastAtMs: 1_764_000_009_000,
  pin: "engine-1",
};
const viewEngine = {
  engine: "engine-1",
  incarnation: "inc-7f3a",
  state: "up",
  info: {
    kind: "llama",
    models: ["smollm2-135m-instruct"],
    preemption: "swap",
    batchCallsMax: 4,
    residentCallsMax: 8,
    heldCallsMax: 64,
    kvBlocks: 512,
    blockTokens: 16,
    contextTokensMax: 2_048,
    hostBlocks: 1_024,
    retains: true,
  },
  run: ["default/call-2"],
  reserve: ["default/call-3"],
  keep: [{ call: "default/call-1", tier: "host" }],
  retained: [{ call: "default/call-0", tier: "engine" }],
  counters,
  kv: { running: 20, parked: 0, retained: 8, host: 16 },
};

const plan = {
  pool: "main",
  engine: "engine-1",
  incarnation: "inc-7f3a",
  epoch: 41,
  number: 1_234,
  reportSeen: 1_200,
  run: [
    {
      call: "default/call-1",
      attempt: 2,
      dispatch: {
        seq: 70_123,
        fence: 5_150,
        program: "research agent – 日本",
        thread: "branch-2",
        reply: "autellix.tokens.frontend-1",
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        bodyObject: "3f0c8a52-7a4e-4f0a-9a53-0d2f2f9a5f10",
        waitedMs: 12.5,
        servedMs: 900.75,
      },
    },
    { call: "default/call-2", attempt: 1 },
  ],
  reserve: [{ call: "team_b/call-3", attempt: 1 }],
  keep: [{ call: "team_b/call-4", attempt: 1 }],
  cancel: [{ call: "default/call-5", attempt: 1, cause: "deadline" }],
  fences: [
    { call: "default/call-6", attempt: 2, fence: 5_151 },
    { call: "default/call-7", attempt: 1, fence: null },
  ],
  windowSteps: 16,
};

const report = {
  kind: "report",
  pool: "main",
  engine: "engine-1",
  incarnation: "inc-7f3a",
  number: 1_201,
  planEpoch: 41,
  planNumber: 1_234,
  info: {
    kind: "llama",
    models: ["smollm2-135m-instruct"],
    preemption: "swap",
    batchCallsMax: 8,
    residentCallsMax: 16,
    heldCallsMax: 64,
    kvBlocks: 512,
    blockTokens: 16,
    contextTokensMax: 8_192,
  },
  calls: [
    {
      call: "default/call-1",
      attempt: 2,
      state: "running",
      serviceMs: 150.5,
      contextTokens: 130,
      promptTokens: 120,
      completionTokens: 10,
    },
  ],
  finished: [
    {
      call: "default/call-0",
      attempt: 1,
      status: "completed",
      found: false,
      serviceMs: 820.25,
      waitingMs: 33,
      promptTokens: 20,
      completionTokens: 31,
      report: 1_201,
    },
  ],
  fenced: [{ call: "default/call-7", attempt: 1 }],
  frontendsDead: ["frontend-9"],
  counters,
};

const countersOfContexts = {
  ...counters,
  prefilledTokens: 70_000,
  cachedTokens: 31_000,
  swapOuts: 12,
  swapIns: 9,
  swapBytes: 1_234_567_890,
  swapMs: 81.5,
  planIdleMs: 40.25,
};
const kv = { running: 120, parked: 64, retained: 300, host: 28 };

// In the order of the schemas, which is that of what they decode.
const { cancel: _cancel, fences: _fences, windowSteps: _windowSteps, ...head } = plan;
const [{ report: endReport, ...ended }] = report.finished as [(typeof report.finished)[number]];

/** What a server answers beside text. */
const deltas = [
  { delta: { reasoning_content: "Weather – 天気" } },
  {
    delta: { content: " So", tool_calls: [{ index: 0, id: "call_1", function: { name: "weather", arguments: "{" } }] },
    logprobs: { content: [{ token: " So", logprob: -0.25, bytes: [32, 83, 111], top_logprobs: [] }] },
  },
];

export const examples: Record<string, Example> = {
  plan: { schema: planSchema, message: plan },
  report: { schema: agentMessageSchema, message: report },
  "plan-contexts": {
    schema: planSchema,
    message: {
      ...head,
      run: [
        {
          call: "default/call-9",
          attempt: 1,
          dispatch: {
            seq: 70_124,
            fence: 0,
            program: "research agent – 日本",
            waitedMs: 1,
            servedMs: 0,
            continues: "default/call-8",
          },
        },
      ],
      keep: [
        { call: "team_b/call-4", attempt: 1, tier: "engine" },
        { call: "team_b/call-5", attempt: 3, tier: "host" },
        { call: "team_b/call-6", attempt: 1, tier: "none" },
      ],
      retained: [
        { call: "default/call-7", tier: "engine" },
        { call: "default/call-6", tier: "host" },
      ],
      ...{ cancel: plan.cancel, fences: plan.fences, windowSteps: plan.windowSteps },
    },
  },
  "report-contexts": {
    schema: agentMessageSchema,
    message: {
      ...report,
      info: { ...report.info, kind: "http", hostBlocks: 4_096, retains: true, forwards: true },
      calls: [
        { ...report.calls[0], preemptible: false },
        { ...report.calls[0], call: "default/call-2", state: "swapped" },
      ],
      finished: [{ ...ended, cachedTokens: 16, contextTokens: 51, report: endReport }],
      counters: countersOfContexts,
      kv,
    },
  },
  "gap-deltas": {
    schema: gapAnswerSchema,
    message: { state: "known", epoch: 41, attempt: 2, index: 17, count: 3, text: " So", ids: [5, 70_000, 9], deltas },
  },
  "tokens-deltas": {
    schema: frontendMessageSchema,
    message: {
      kind: "tokens",
      engine: "engine-1",
      epoch: 41,
      items: [{ call: "default/call-1", attempt: 2, index: 10, count: 2, text: " So", ids: [260, 31_999], deltas }],
    },
  },
  "status-contexts": {
    schema: statusSchema,
    message: {
      pool: "main",
      epoch: 41,
      policy: "plas",
      models: ["smollm2-135m-instruct"],
      queuedCalls: 17,
      runningCalls: 8,
      queuedCallsMax: 10_000,
      engines: [{ engine: "engine-1", state: "up", runningCalls: 8, heldCalls: 11, counters: countersOfContexts, kv }],
      endsPerSecond: 3.5,
      dispatching: true,
    },
  },
  exit: {
    schema: agentMessageSchema,
    message: { kind: "exit", pool: "main", engine: "engine-1", incarnation: "inc-7f3a" },
  },
  "ask-report": { schema: askSchema, message: { kind: "report", epoch: 41 } },
  "ask-tokens": { schema: askSchema, message: { kind: "tokens", call: "default/call-1", from: 17 } },
  "gap-known": {
    schema: gapAnswerSchema,
    message: { state: "known", epoch: 41, attempt: 2, index: 17, count: 3, text: " the Ä", ids: [5, 70_000, 9] },
  },
  "gap-unknown": { schema: gapAnswerSchema, message: { state: "unknown" } },
  tokens: {
    schema: frontendMessageSchema,
    message: {
      kind: "tokens",
      engine: "engine-1",
      epoch: 41,
      items: [
        { call: "default/call-1", attempt: 2, index: 10, count: 2, text: " Paris", ids: [260, 31_999] },
        { call: "default/call-2", attempt: 1, index: 0, count: 1, text: "" },
      ],
    },
  },
  end: {
    schema: frontendMessageSchema,
    message: {
      kind: "end",
      call: "default/call-1",
      pool: "main",
      status: "completed",
      body: Buffer.from('{"call_id":"call-1"}'),
    },
  },
  have: {
    schema: frontendMessageSchema,
    message: { kind: "have", call: "default/call-1", engine: "engine-2", epoch: 42, attempt: 3 },
  },
  ping: { schema: frontendMessageSchema, message: { kind: "ping" } },
  "have-live": { schema: haveAnswerSchema, message: { state: "live", count: 12, ids: [1, 2, 3] } },
  "have-gone": { schema: haveAnswerSchema, message: { state: "gone" } },
  confirm: { schema: confirmSchema, message: { ok: true } },
  status: {
    schema: statusSchema,
    message: {
      pool: "main",
      epoch: 41,
      policy: "plas",
      models: ["smollm2-135m-instruct"],
      queuedCalls: 17,
      runningCalls: 8,
      queuedCallsMax: 10_000,
      engines: [{ engine: "engine-1", state: "up", runningCalls: 8, heldCalls: 11, counters }],
      endsPerSecond: 3.5,
      dispatching: false,
      reason: "the outcomes stream is 80 % full",
    },
  },
  beat: { schema: beatSchema, message: { pool: "main", epoch: 41, leader: "scheduler-1", number: 99 } },
  "control-start": { schema: controlSchema, message: { op: "program.start", program_id: "research agent" } },
  "control-end": { schema: controlSchema, message: { op: "program.end", program_id: "research agent", cancel: true } },
  "control-read": { schema: controlSchema, message: { op: "program.read", program_id: "research agent" } },
  "control-cancel": { schema: controlSchema, message: { op: "call.cancel", call_id: "call-1", cause: "orphan" } },
  "answer-program": {
    schema: controlAnswerSchema,
    message: {
      ok: true,
      program: {
        id: "research agent",
        object: "program",
        pool: "main",
        state: "open",
        service_ms: 820.25,
        waiting_ms: 33,
        attained_service_ms: 820.25,
        calls: { waiting: 1, running: 1, ended: 5 },
      },
    },
  },
  "answer-call": { schema: controlAnswerSchema, message: { ok: true, call: "pending" } },
  "answer-error": {
    schema: controlAnswerSchema,
    message: { ok: false, error: { code: "not_found", message: "No such program." } },
  },
  "view-watch": { schema: viewAskSchema, message: { op: "watch" } },
  "view-ask": {
    schema: viewAskSchema,
    message: { op: "page", what: "calls", from: "hdefault/call-1", max: 100, tenant: "default", program: "research" },
  },
  "view-page": {
    schema: viewPageSchema,
    message: {
      pool: viewPool,
      number: 12,
      atMs: 1_764_000_010_000.5,
      programs: [viewProgram],
      calls: [viewCall],
      engines: [viewEngine],
      next: "hdefault/call-1",
    },
  },
  "view-changes": {
    schema: viewChangesSchema,
    message: {
      pool: viewPool,
      number: 13,
      atMs: 1_764_000_010_100.5,
      programs: [viewProgram],
      calls: [viewCall],
      engines: [viewEngine],
      gone: {
        programs: [{ tenant: "default", program: "old" }],
        calls: ["default/call-0"],
        engines: ["engine-0"],
      },
    },
  },
  "view-page-tokens": {
    schema: viewPageSchema,
    message: { pool: { ...viewPool, policy: "las-decay", measures: "tokens" }, number: 12, atMs: 1_764_000_010_000.5 },
  },
  // Leaders of before do not say what ended.
  "view-changes-ended": {
    schema: viewChangesSchema,
    message: {
      pool: viewPool,
      number: 14,
      atMs: 1_764_000_010_200.5,
      programs: [],
      calls: [],
      engines: [],
      ended: [
        {
          call: "default/call-4",
          program: "research agent – 日本",
          thread: "branch-2",
          status: "completed",
          level: 1,
          engine: "engine-1",
          attempt: 1,
          arrivedAtMs: 1_764_000_010_120.25,
          endedAtMs: 1_764_000_010_190.5,
          queuedMs: 1.5,
          waitingMs: 12.25,
          serviceMs: 55.5,
          promptTokens: 210,
          completionTokens: 40,
        },
      ],
      gone: { programs: [], calls: ["default/call-4"], engines: [] },
    },
  },
};
