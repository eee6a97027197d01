import { balancers, policies } from "@autellix/core";
import { ConfigError, parseConfig } from "@autellix/runtime";
import { describe, expect, it } from "vitest";
import { schedulerConfig } from "../src/config.ts";

const parse = (env: Record<string, string> = {}) => parseConfig(schedulerConfig, { AUTELLIX_POOL: "p", ...env });

describe("the scheduler's variables", () => {
  it("choose the paper's form where nothing is said, and record nothing", () => {
    const config = parse();
    expect(config).toMatchObject({
      AUTELLIX_POLICY: "plas",
      AUTELLIX_BALANCER: "locality",
      AUTELLIX_LADDER: "calibrated",
      AUTELLIX_LADDER_LEVELS: 7,
      AUTELLIX_LADDER_FACTOR: 2,
      AUTELLIX_BINDING: "arrival",
      AUTELLIX_MISFIT: "stop",
    });
    expect([config.AUTELLIX_BETA, config.AUTELLIX_INPUT_LOG]).toEqual([undefined, undefined]);
  });

  it.each(Object.keys(policies))("take the policy %s", (name) => {
    expect(parse({ AUTELLIX_POLICY: name }).AUTELLIX_POLICY).toBe(name);
  });

  it.each(Object.keys(balancers))("take the balancer %s", (name) => {
    expect(parse({ AUTELLIX_BALANCER: name }).AUTELLIX_BALANCER).toBe(name);
  });

  it.each([
    ["8", 8],
    ["0.5", 0.5],
    ["off", Number.POSITIVE_INFINITY],
  ])("take %s for β and for the share of promoted calls", (text, number) => {
    expect(parse({ AUTELLIX_BETA: text }).AUTELLIX_BETA).toBe(number);
    expect(parse({ AUTELLIX_PROMOTED_SHARE: text }).AUTELLIX_PROMOTED_SHARE).toBe(number);
  });

  it.each([
    ["AUTELLIX_POLICY", "best"],
    ["AUTELLIX_POLICY", "toString"],
    ["AUTELLIX_BALANCER", "random"],
    ["AUTELLIX_BETA", "0"],
    ["AUTELLIX_BETA", "Infinity"],
    ["AUTELLIX_BETA", "-1"],
    ["AUTELLIX_PROMOTED_SHARE", "0"],
    ["AUTELLIX_PROMOTED_SHARE", "half"],
    ["AUTELLIX_LADDER", "wooden"],
    ["AUTELLIX_LADDER_FACTOR", "0.5"],
    ["AUTELLIX_LADDER_LEVELS", "65"],
    ["AUTELLIX_LADDER_LEVELS", "0"],
    ["AUTELLIX_BINDING", "never"],
    ["AUTELLIX_MISFIT", "wait"],
    ["AUTELLIX_INPUT_LOG_BYTES_MAX", "12"],
  ])("refuse %s=%s in one line that names it", (name, text) => {
    expect(() => parse({ [name]: text })).toThrow(ConfigError);
    expect(() => parse({ [name]: text })).toThrow(new RegExp(`^${name} .*"${text}"`));
  });
});
