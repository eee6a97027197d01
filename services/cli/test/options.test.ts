import { balancers, policies } from "@autellix/core";
import { presets } from "@autellix/engines/cost";
import { describe, expect, it } from "vitest";
import { parseStartOptions, startHelp } from "../src/start/options.ts";
import { UsageError } from "../src/usage.ts";

const HTTP = ["--engine", "http", "--url", "http://127.0.0.1:8000"];
const parse = (args: string[], env = {}) => parseStartOptions(args, env, "/repo/.data", "/here");

describe("the options of npm start", () => {
  it("have defaults: one default model, two engines, two frontends, one scheduler, plas", () => {
    expect(parse([])).toEqual({
      models: [{ kind: "default" }],
      engine: "llama",
      http: undefined,
      aliases: [],
      hostKvBytesMax: undefined,
      engines: 2,
      frontends: 2,
      schedulers: 1,
      policy: "plas",
      balancer: "locality",
      port: 8080,
      natsUrl: undefined,
      natsPort: 4222,
      dashboardPort: 8090,
      metricsPort: undefined,
      dataDir: "/repo/.data",
      apiKeysFile: undefined,
      preset: undefined,
      inputLogFile: undefined,
      traceFile: undefined,
      logLevel: "info",
      pretty: false,
    });
  });

  it("take several models, and paths relative to where the person is", () => {
    const args = [
      "--model",
      "a.gguf",
      "--model=hf:user/repo:Q4_K_M",
      "--model",
      "tiny",
      "--data-dir",
      "d",
      "--api-keys",
      "/k.json",
      "--input-log",
      "inputs.jsonl",
      "--trace",
      "trace.jsonl",
    ];
    expect(parse(args)).toMatchObject({
      models: [{ kind: "file", path: "/here/a.gguf" }, { kind: "hub", uri: "hf:user/repo:Q4_K_M" }, { kind: "tiny" }],
      dataDir: "/here/d",
      apiKeysFile: "/k.json",
      inputLogFile: "/here/inputs.jsonl",
      traceFile: "/here/trace.jsonl",
    });
  });

  it("take servers that run already, one engine for each", () => {
    const args = ["--url", "https://b/v1", "--model", "org/m", "--alias", "gpt-4o", "--slots", "8"];
    const more = ["--dialect", "vllm", "--api-key-env", "KEY", "--ca", "ca.pem"];
    expect(parse([...HTTP, ...args, ...more])).toMatchObject({
      engine: "http",
      engines: 2,
      models: [{ kind: "served", name: "org/m" }],
      aliases: ["gpt-4o"],
      http: {
        urls: ["http://127.0.0.1:8000", "https://b/v1"],
        dialect: "vllm",
        slots: 8,
        apiKeyEnv: "KEY",
        caFile: "/here/ca.pem",
      },
    });
    expect(parse(HTTP)?.http).toMatchObject({ dialect: "auto", slots: undefined });
  });

  it("take NATS_URL, but rather --nats-url", () => {
    expect(parse([], { NATS_URL: "nats://a" })?.natsUrl).toBe("nats://a");
    expect(parse(["--nats-url", "nats://b"], { NATS_URL: "nats://a" })?.natsUrl).toBe("nats://b");
  });

  it.each([
    [["--bogus"], "Unknown option '--bogus'; see npm start -- --help"],
    [["--port"], "Option '--port <value>' argument missing; see npm start -- --help"],
    [["more"], "Unexpected argument 'more'. This command does not take positional arguments; see npm start -- --help"],
    [["--engines", "0"], '--engines must be a whole number from 1 to 64, not "0"'],
    [["--port", "65536"], '--port must be a whole number from 1 to 65535, not "65536"'],
    [["--port", "65535"], "--port 65535 leaves no room for 2 frontends below 65535"],
    [["--policy", "best"], `--policy must be one of ${Object.keys(policies).join(", ")}, not "best"`],
    [["--balancer", "toString"], `--balancer must be one of ${Object.keys(balancers).join(", ")}, not "toString"`],
    [["--input-log", ""], "--input-log needs a file"],
    [["--trace", ""], "--trace needs a file"],
    [["--preset", "a100-8b"], "--preset is for --engine simulated"],
    [
      ["--engine", "simulated", "--preset", "h100"],
      `--preset must be one of ${Object.keys(presets).join(", ")}, or a file of npm run calibrate, not "h100"`,
    ],
    [["--engine", "http"], "--engine http needs --url"],
    [["--url", "http://a"], "--url is for --engine http"],
    [["--slots", "3"], "--slots is for --engine http"],
    [
      ["--engine", "http", "--url", "127.0.0.1:8000"],
      '--url must be the URL of a server, such as http://127.0.0.1:8000, not "127.0.0.1:8000"',
    ],
    [[...HTTP, "--slots", "0"], '--slots must be a whole number from 1 to 65536, not "0"'],
    [[...HTTP, "--dialect", "tgi"], '--dialect must be one of auto, vllm, sglang, llama-server, openai, not "tgi"'],
    [[...HTTP, "--engines", "2"], "--engines is not for http: there is one for each --url"],
    [[...HTTP, "--host-kv-bytes", "5"], "--host-kv-bytes is not for --engine http"],
    [[...HTTP, "--alias", "x"], "--alias needs --model with the server's own name of the model"],
    [[...HTTP, "--model", "a", "--model", "b"], "--engine http is for one model"],
    [["--model", "tiny", "--model", "b.gguf", "--alias", "x"], "--alias is for one model"],
    [["--host-kv-bytes", "1G"], '--host-kv-bytes must be a number of bytes, not "1G"'],
  ])("refuse %j in one line", (args, message) => {
    expect(() => parse(args)).toThrow(new UsageError(message));
  });

  it.each(Object.keys(policies))("take every policy of the core, such as %s, and name it in the help", (policy) => {
    expect(parse(["--policy", policy])?.policy).toBe(policy);
    expect(startHelp()).toContain(policy);
  });

  it.each(Object.keys(balancers))(
    "take every balancer of the core, such as %s, and name it in the help",
    (balancer) => {
      expect(parse(["--balancer", balancer])?.balancer).toBe(balancer);
      expect(startHelp()).toContain(balancer);
    },
  );

  it("are all in the help", () => {
    expect(parse(["--engine", "nonsense", "--help"])).toBeUndefined();
    for (const name of [
      "model",
      "engine",
      "engines",
      "url",
      "dialect",
      "slots",
      "api-key-env",
      "ca",
      "alias",
      "host-kv-bytes",
      "frontends",
      "schedulers",
      "policy",
      "balancer",
      "input-log",
      "trace",
      "nats-url",
      "nats-port",
      "metrics-port",
      "port",
      "data-dir",
      "api-keys",
      "preset",
      "log-level",
      "pretty",
    ]) {
      expect(startHelp()).toContain(`--${name} `);
    }
  });
});
