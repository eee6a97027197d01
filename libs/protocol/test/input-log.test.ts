import { describe, expect, it } from "vitest";
import {
  commandDigest,
  formatInputLog,
  INPUT_LOG_VERSION,
  InputLogError,
  type InputLogHeader,
  type InputLogItem,
  readInputLog,
} from "../src/input-log.ts";

const header: InputLogHeader = {
  log: "autellix-inputs",
  version: INPUT_LOG_VERSION,
  pool: "p",
  epoch: 7,
  config: {
    policy: "plas",
    balancer: "locality",
    ladder: [
      { lo: 0, hi: 1_000, quantum: 1_000 },
      { lo: 1_000, hi: Number.POSITIVE_INFINITY, quantum: 2_000 },
    ],
    binding: "arrival",
    misfit: "stop",
    windowSteps: 8,
    reserveCallsMax: 2,
    beta: Number.POSITIVE_INFINITY,
    betaFloorMs: 100,
    promotedShare: Number.POSITIVE_INFINITY,
    attemptsCrashedMax: 3,
    programIdleMaxMs: 1,
    cancelMemoryMs: 1,
    cancelMemoryMax: 1,
    planResendMs: 1,
  },
};
const arrival = { kind: "callArrived", at: 1.5, call: { id: "default/c", deadlineAt: Number.POSITIVE_INFINITY } };
const lines = [
  formatInputLog(header),
  formatInputLog({ input: arrival, commands: ["wakeAt 0011223344556677"] }),
  formatInputLog({ input: { kind: "planDue", at: 2 }, threw: true }),
  formatInputLog({ end: "stopped" }),
];

async function read(from: Iterable<string>): Promise<InputLogItem[]> {
  const items: InputLogItem[] = [];
  for await (const item of readInputLog(from)) items.push(item);
  return items;
}

describe("an input log", () => {
  it("comes back as it was written, infinite numbers included", async () => {
    expect(await read(lines)).toEqual([
      { kind: "header", header },
      { kind: "input", line: 2, input: arrival, commands: ["wakeAt 0011223344556677"] },
      { kind: "input", line: 3, input: { kind: "planDue", at: 2 }, commands: undefined },
      { kind: "end", line: 4, reason: "stopped" },
    ]);
  });

  it("keeps every bit of a number", () => {
    const at = 1_792_000_000_123 + 2 ** -12;
    expect(JSON.parse(formatInputLog({ at }))).toEqual({ at });
  });

  it("that was cut anywhere in its last line is read up to there", async () => {
    const last = lines[1] ?? "";
    for (let length = 1; length < last.length; length++) {
      const items = await read([lines[0] ?? "", lines[2] ?? "", last.slice(0, length)]);
      expect(items.at(-1)).toEqual({ kind: "torn", line: 3 });
    }
  });

  it("may end with empty lines, as a file that is split at its line ends does", async () => {
    expect(await read([...lines.slice(0, 2), ""])).toHaveLength(2);
    expect(await read([...lines.slice(0, 2), "", ""])).toHaveLength(2);
  });

  it("without inputs is one, too", async () => {
    expect(await read([lines[0] ?? ""])).toHaveLength(1);
  });

  const [first = "", second = ""] = lines;
  const ladderOf = (levels: number) =>
    formatInputLog({ ...header, config: { ...header.config, ladder: { first: 1, levels, factor: 2 } } });
  it.each([
    ["nothing", [], "not_an_input_log", 1],
    ["an empty line", [""], "not_an_input_log", 1],
    ["other JSON", ['{"level":"info"}', second], "not_an_input_log", 1],
    ["no JSON", ["hello"], "not_an_input_log", 1],
    ["a torn header", [first.slice(0, 40)], "not_an_input_log", 1],
    ["a newer format", [formatInputLog({ ...header, version: 2 })], "log_version_unknown", 1],
    ["a header without a policy", [formatInputLog({ ...header, config: {} })], "log_line_invalid", 1],
    ["more levels than a ladder has", [ladderOf(65)], "log_line_invalid", 1],
    ["a torn line in the middle", [first, second.slice(0, 30), second], "log_line_invalid", 2],
    ["an empty line in the middle", [first, "", second], "log_line_invalid", 2],
    ["an input without its time", [first, '{"input":{"kind":"planDue"},"commands":[]}'], "log_line_invalid", 2],
    ["an input without its commands", [first, '{"input":{"kind":"planDue","at":1}}', second], "log_line_invalid", 2],
    ["an end that is none", [first, '{"end":"stopped"}', second], "log_line_invalid", 2],
  ] as const)("of %s is refused with a code and the line", async (_name, text, code, line) => {
    const refused = read(text);
    await expect(refused).rejects.toBeInstanceOf(InputLogError);
    await expect(refused).rejects.toMatchObject({ code, line, message: expect.stringContaining(`line ${line}: `) });
  });
});

describe("a command's digest", () => {
  it("names its kind, and differs when anything in it does", () => {
    const digest = (fields: object) => commandDigest({ kind: "wakeAt", ...fields });
    expect(digest({ at: 5 })).toMatch(/^wakeAt [0-9a-f]{16}$/);
    expect(digest({ at: 5 })).toBe(digest({ at: 5 }));
    expect(digest({ at: 5.000000001 })).not.toBe(digest({ at: 5 }));
    expect(digest({ at: Number.POSITIVE_INFINITY })).not.toBe(digest({ at: null }));
  });
});
