import { describe, expect, it } from "vitest";
import { bytesText, Console } from "../src/start/console.ts";
import { Restarts } from "../src/start/restarts.ts";
import { count } from "../src/suites/vitest.ts";

function consoleOf(isTty: boolean) {
  const written: string[] = [];
  return { written, console: new Console({ write: (text) => written.push(text), isTty, columns: 30 }) };
}

describe("Console", () => {
  it("rewrites one line on a terminal, and never wider than that is", () => {
    const { written, console } = consoleOf(true);
    console.progress("model", "1 %");
    console.progress("model", "a text that is longer than the terminal is wide");
    console.line("done");
    expect(written).toEqual([
      "model: 1 %",
      "\r\u001b[2K",
      "model: a text that is longer t".slice(0, 29),
      "\r\u001b[2K",
      "done\n",
    ]);
  });

  it("writes plain lines elsewhere, not one for each change", () => {
    const { written, console } = consoleOf(false);
    for (let percent = 0; percent < 100; percent++) console.progress("model", `${percent} %`);
    console.progress("nats-server", "1 %");
    expect(written).toEqual(["model: 0 %\n", "nats-server: 1 %\n"]);
  });

  it("shows bytes with a share where the total is known", () => {
    expect(bytesText(49_181_216, 98_362_432)).toBe("49.2 of 98.4 MB (50 %)");
    expect(bytesText(1_000_000)).toBe("1.0 MB");
  });
});

describe("Restarts", () => {
  it("waits longer each time, up to 5 s", () => {
    const restarts = new Restarts();
    const delays = Array.from({ length: 8 }, () => {
      restarts.started();
      return restarts.died();
    });
    expect(delays).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  });
});

describe("the count of a test run", () => {
  const report = (success: boolean, ...files: { status: string; statuses: string[] }[]) =>
    JSON.stringify({
      success,
      testResults: files.map(({ status, statuses }) => ({
        name: "f",
        status,
        message: "Error: no such module\n  at x",
        assertionResults: statuses.map((s) => ({
          status: s,
          fullName: "t",
          failureMessages: s === "failed" ? ["\u001b[31mError: one is not two\u001b[39m\n  at y"] : [],
        })),
      })),
    });

  it("adds up passed and failed tests, and leaves skipped ones out", () => {
    const text = report(
      false,
      { status: "failed", statuses: ["passed", "failed", "skipped"] },
      { status: "passed", statuses: ["passed"] },
    );
    expect(count(text, 1, false)).toEqual({ passed: 2, failed: 1, failures: ["f: t: Error: one is not two"] });
  });

  it("takes a skipped test for a failed one in CI", () => {
    expect(count(report(true, { status: "passed", statuses: ["passed", "skipped", "pending"] }), 0, true)).toEqual({
      passed: 1,
      failed: 2,
      failures: ["f: t: skipped, which fails with CI set", "f: t: skipped, which fails with CI set"],
    });
  });

  it("takes a file that cannot be loaded, a missing report and an error outside all tests for failures", () => {
    expect(count(report(false, { status: "failed", statuses: [] }), 1, false)).toEqual({
      passed: 0,
      failed: 1,
      failures: ["f: Error: no such module"],
    });
    const outside = { failed: 1, failures: ["an error outside all tests: exit code 1"] };
    expect(count(undefined, 1, false)).toEqual({ passed: 0, ...outside });
    expect(count(report(false, { status: "passed", statuses: ["passed"] }), 1, false)).toEqual({
      passed: 1,
      ...outside,
    });
  });
});
