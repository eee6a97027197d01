import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  callKey,
  fromToken,
  isName,
  isValidAddress,
  keySubject,
  keys,
  parseCallSubject,
  parseReply,
  splitCallKey,
  subjects,
  toToken,
} from "../src/index.ts";

const nameOf = fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/);

describe("a name", () => {
  it.each(["a", "A-z_0", "x".repeat(64), "-", "_"])("may be %s", (text) => expect(isName(text)).toBe(true));
  it.each(["", "x".repeat(65), "a.b", "a b", "a*", ">", "ü", "a/b", "a\n", "\u0000"])("may not be %j", (text) =>
    expect(isName(text)).toBe(false),
  );
});

describe("a call key", () => {
  it("gives back what it was made of", () => {
    fc.assert(
      fc.property(nameOf, nameOf, (tenant, callId) => {
        expect(splitCallKey(callKey(tenant, callId))).toEqual({ tenant, callId });
      }),
    );
  });
  it.each(["", "a", "/a", "a/"])("is not %j", (key) => expect(() => splitCallKey(key)).toThrow("not a call key"));
});

it("any text becomes one token of a key, and comes back", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1, maxLength: 300 }), (text) => {
      expect(toToken(text)).toMatch(/^[A-Za-z0-9_-]+$/);
      expect(fromToken(toToken(text))).toBe(text);
    }),
  );
});

describe("a call's subject", () => {
  it("gives back the address it was made of, in each of its three streams", () => {
    fc.assert(
      fc.property(nameOf, nameOf, nameOf, (pool, tenant, callId) => {
        for (const make of [subjects.call, subjects.outcome, subjects.dead]) {
          const address = parseCallSubject(make(pool, tenant, callId));
          expect(address).toEqual({ pool, tenant, callId });
          expect(address && isValidAddress(address)).toBe(true);
        }
      }),
    );
  });
  it.each([
    "",
    "autellix.calls.p.t",
    "autellix.calls.p.t.a.b",
    "autellix.calls.p..a",
    "autellix.engines.e.plan.x",
    "other.calls.p.t.a",
    "$KV.autellix_pools.lease.p",
  ])("is not %j", (subject) => expect(parseCallSubject(subject)).toBeUndefined());
  it("may hold an id that is no valid name, which is then seen", () => {
    const address = parseCallSubject("autellix.calls.p.t.ü");
    expect(address && isValidAddress(address)).toBe(false);
  });
});

describe("a reply subject", () => {
  it.each(["_INBOX.abc", "_INBOX.A1b2.C3d4.5", "_INBOX.a-b_c~!#$%&'()+,:;<=?@[]^`{|}", `_INBOX.${"x".repeat(249)}`])(
    "may be the inbox %s",
    (subject) => expect(parseReply(subject)).toEqual({ kind: "inbox", subject }),
  );

  it("may be a frontend's token subject", () => {
    expect(parseReply("autellix.tokens.front-1_a")).toEqual({ kind: "frontend", frontend: "front-1_a" });
    expect(parseReply(subjects.tokens("f".repeat(64)))).toEqual({ kind: "frontend", frontend: "f".repeat(64) });
  });

  it.each([
    ["a key of the bucket", keySubject(keys.lease("p"))],
    ["a key in front of which an inbox is claimed", "$KV._INBOX.x"],
    ["a call", subjects.call("p", "t", "a")],
    ["an outcome", subjects.outcome("p", "t", "a")],
    ["the JetStream API", "$JS.API.STREAM.DELETE.AUTELLIX_CALLS"],
    ["an ack", "$JS.ACK.AUTELLIX_CALLS.leader-p-1.1.2.3.4.5"],
    ["an agent's plans", subjects.plan("e")],
    ["a frontend with a dot", "autellix.tokens.a.b"],
    ["every frontend", "autellix.tokens.*"],
    ["every inbox", "_INBOX.>"],
    ["any inbox", "_INBOX.*"],
    ["a part of a token", "_INBOX.a*b"],
    ["the bare prefix", "_INBOX"],
    ["the prefix with a dot", "_INBOX."],
    ["an empty token", "_INBOX.a..b"],
    ["an empty last token", "_INBOX.a."],
    ["another prefix", "_INBOXES.a"],
    ["a lower-case prefix", "_inbox.a"],
    ["a space", "_INBOX.a b"],
    ["a tab", "_INBOX.a\tb"],
    ["a line break", "_INBOX.a\r\nPUB x 0"],
    ["a line break at the end", "_INBOX.a\n"],
    ["a NUL", "_INBOX.a\u0000"],
    ["a character that is no ASCII", "_INBOX.ä"],
    ["nothing", ""],
    ["300 characters", `_INBOX.${"x".repeat(293)}`],
  ])("may not be %s", (_, subject) => expect(parseReply(subject)).toBeUndefined());

  it("is decided in no time, however hostile", () => {
    // With a pattern that backtracks, the first of these takes longer than the universe.
    for (const part of [".a", ".", "a", ".a.b-"]) {
      expect(parseReply(`${`_INBOX${part.repeat(60)}`.slice(0, 250)} `)).toBeUndefined();
    }
  });

  it("is an inbox only when NATS would take it for one subject below _INBOX", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary-ascii", maxLength: 40 }), (rest) => {
        const subject = `_INBOX.${rest}`;
        const tokens = rest.split(".");
        const valid = tokens.every(
          (token) => token !== "" && ![...token].some((c) => c <= " " || c === "*" || c === ">" || c === "\u007f"),
        );
        expect(parseReply(subject) !== undefined).toBe(valid);
      }),
      { numRuns: 5_000 },
    );
  });
});
