import { describe, expect, it } from "vitest";
import { z } from "zod";
import { ConfigError, commonConfig, envFlag, envInt, envList, envNumber, envText, parseConfig } from "../src/index.ts";

const schema = z.object({
  ...commonConfig,
  PORT: envInt({ min: 1, max: 65_535 }),
  SHARE: envNumber({ min: 0, max: 1 }).default(0.5),
  NAMES: envList().default(["a"]),
  FLAG: envFlag().default(false),
  FILE: envText().optional(),
});

describe("parseConfig", () => {
  it("fills in defaults and makes numbers, flags and lists of text", () => {
    expect(parseConfig(schema, { PORT: "8080", NAMES: "a, b,,c", FLAG: "1", FILE: "", SHARE: "0.25" })).toEqual({
      AUTELLIX_NATS_URL: "nats://127.0.0.1:4222",
      AUTELLIX_LOG_LEVEL: "info",
      AUTELLIX_PRETTY: false,
      AUTELLIX_METRICS_HOST: "127.0.0.1",
      PORT: 8080,
      SHARE: 0.25,
      NAMES: ["a", "b", "c"],
      FLAG: true,
    });
  });

  it.each([
    [{}, "PORT must be a whole number from 1 to 65535 (it is not set)"],
    [{ PORT: "70000" }, 'PORT must be a whole number from 1 to 65535 (it is "70000")'],
    [{ PORT: "1", SHARE: "2" }, 'SHARE must be a number from 0 to 1 (it is "2")'],
    [{ PORT: "1", FLAG: "yes" }, 'FLAG must be true or false (it is "yes")'],
    [{ PORT: "1", NAMES: "," }, 'NAMES must be a comma-separated list (it is ",")'],
    [
      { PORT: "1", AUTELLIX_LOG_LEVEL: "loud" },
      'AUTELLIX_LOG_LEVEL must be one of trace, debug, info, warn, error, fatal, silent (it is "loud")',
    ],
  ])("refuses %j in one line", (env, message) => {
    expect(() => parseConfig(schema, env)).toThrow(new ConfigError(message));
  });
});
