import { describe, expect, it } from "vitest";
import { OBSERVE_COMMANDS, observeHelp, observeOptions } from "../src/observe/options.ts";
import { UsageError } from "../src/usage.ts";

describe("options of the observing commands", () => {
  it("take NATS from the command line, then from the environment, then the default", () => {
    const nats = (args: string[], env = {}) => observeOptions("ps", args, env)?.nats;
    expect(nats(["--nats", "nats://a"], { NATS_URL: "nats://b" })).toBe("nats://a");
    expect(nats([], { NATS_URL: "nats://b", AUTELLIX_NATS_URL: "nats://c" })).toBe("nats://b");
    expect(nats([], { AUTELLIX_NATS_URL: "nats://c" })).toBe("nats://c");
    expect(nats([], { NATS_URL: "" })).toBe("nats://127.0.0.1:4222");
  });

  it.each([
    ["ps", ["--foo"], "--foo"],
    ["ps", ["extra"], '"extra" is one word too many'],
    ["ps", ["--monitor", "http://x"], "--monitor is not an option of ps"],
    ["calls", ["--state", "lost"], "--state must be one of waiting, "],
    ["programs", ["--sort", "colour"], "--sort must be one of"],
    ["top", ["--every", "0"], "--every must be a number of seconds"],
    ["trace", [], "trace needs the id of a program"],
    ["trace", ["p", "--jaeger", "nats://x"], "--jaeger must be a URL"],
    ["doctor", ["--limit", "3"], "--limit is not an option of doctor"],
  ] as const)("of %s %j are refused in one line", (command, args, message) => {
    const parse = () => observeOptions(command, args, {});
    expect(parse).toThrow(UsageError);
    expect(parse).toThrow(message);
  });

  it("are in the help, each with a sentence", () => {
    for (const command of OBSERVE_COMMANDS) {
      expect(observeHelp()).toContain(`\n  ${command} `);
      expect(observeHelp(command)).toContain("--json");
      expect(observeOptions(command, ["--help"], {})).toBeUndefined();
    }
  });
});
