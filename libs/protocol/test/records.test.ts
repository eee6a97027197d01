import { describe, expect, it } from "vitest";
import {
  AutellixError,
  decodeAs,
  type ErrorCode,
  encodeOutcome,
  errorBody,
  errorTable,
  headers,
  headFields,
  isErrorCode,
  markerCauses,
  type OutcomeBody,
  outcomeBodySchema,
  parseHead,
  type RecordHead,
} from "../src/index.ts";

const read = (fields: Record<string, string>) => parseHead((name) => fields[name] ?? "");
const common = { attempt: 3, epoch: 9_007, engine: "engine-1" };

describe("the head of a record", () => {
  it.each<RecordHead>([
    { kind: "outcome", status: "completed", code: undefined, ...common },
    { kind: "outcome", status: "failed", code: "engine_error", ...common },
    { kind: "outcome", status: "dead", code: "dead", ...common },
    { kind: "outcome", status: "expired", code: "expired", attempt: 0, epoch: 0, engine: "" },
    ...markerCauses.map((cause) => ({ kind: "marker" as const, ...common, cause, crashes: 2 })),
  ])("comes back from its headers: %j", (head) => expect(read(headFields(head))).toEqual(head));

  const outcome = headFields({ kind: "outcome", status: "completed", code: undefined, ...common });
  const marker = headFields({ kind: "marker", ...common, cause: "crash", crashes: 1 });
  it.each<[string, Record<string, string>]>([
    ["without headers", {}],
    ["of another kind", { ...outcome, [headers.kind]: "note" }],
    ["without a status", { ...outcome, [headers.status]: "" }],
    ["of an unknown status", { ...outcome, [headers.status]: "done" }],
    ["of an unknown code", { ...outcome, [headers.code]: "constructor" }],
    ["without an attempt", { ...outcome, [headers.attempt]: "" }],
    ["of a negative attempt", { ...outcome, [headers.attempt]: "-1" }],
    ["of half an attempt", { ...outcome, [headers.attempt]: "1.5" }],
    ["of an attempt in hexadecimal", { ...outcome, [headers.attempt]: "0x10" }],
    ["of an endless epoch", { ...outcome, [headers.epoch]: "9".repeat(20) }],
    ["of an epoch that is no number", { ...outcome, [headers.epoch]: "NaN" }],
    ["that marks attempt 0", { ...marker, [headers.attempt]: "0" }],
    ["that marks for an unknown cause", { ...marker, [headers.cause]: "boredom" }],
    ["that marks without crashes", { ...marker, [headers.crashes]: "" }],
  ])("is none of ours %s", (_, fields) => expect(read(fields)).toBeUndefined());
});

describe("the body of an outcome", () => {
  const body: OutcomeBody = {
    call_id: "c",
    program_id: "p",
    status: "failed",
    error: { code: "engine_error", message: "it broke" },
    usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
    timings: { waiting_ms: 1.5, service_ms: 2 },
  };
  it.each(["json", "msgpack"] as const)("comes back from %s", (encoding) => {
    expect(decodeAs(outcomeBodySchema, encodeOutcome(body, encoding))).toEqual(body);
  });
  it("may have fields that a later version adds", () => {
    expect(decodeAs(outcomeBodySchema, encodeOutcome({ ...body, later: 1 } as OutcomeBody, "json"))).toMatchObject({
      later: 1,
    });
  });
});

describe("the table of errors", () => {
  const codes = Object.keys(errorTable) as ErrorCode[];
  it("has a sentence, a status and OpenAI's type for each code", () => {
    for (const code of codes) {
      const { http, type, meaning, retryable } = errorTable[code];
      expect(meaning).toMatch(/^[A-Z].*\.$/);
      expect(http).toBeGreaterThanOrEqual(400);
      expect(http).toBeLessThan(600);
      expect(type === "server_error").toBe(http >= 500);
      expect(typeof retryable).toBe("boolean");
      expect(code).toMatch(/^[a-z_]+$/);
    }
  });
  it("keeps the codes that were ever given out", () => expect(codes.toSorted()).toMatchSnapshot());
  it("knows its own codes and no others", () => {
    expect(codes.every(isErrorCode)).toBe(true);
    for (const text of ["", "constructor", "toString", "__proto__", "Cancelled"]) expect(isErrorCode(text)).toBe(false);
  });
  it("makes the error that OpenAI's clients understand", () => {
    const error = new AutellixError("invalid_request", "n: must be a number", { param: "n" });
    expect(errorBody(error.code, error.message, error.param)).toEqual({
      error: { message: "n: must be a number", type: "invalid_request_error", param: "n", code: "invalid_request" },
    });
    expect(errorBody("dead", "x").error.param).toBeNull();
    const cause = new Error("below");
    expect(new AutellixError("internal_error", undefined, { cause })).toMatchObject({
      name: "AutellixError",
      message: errorTable.internal_error.meaning,
      cause,
      param: undefined,
    });
  });
});
