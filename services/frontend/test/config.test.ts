import { ConfigError, parseConfig } from "@autellix/runtime";
import { describe, expect, it } from "vitest";
import { configSchema } from "../src/config.ts";

const anywhere = { AUTELLIX_HOST: "0.0.0.0" };

describe("the address that a frontend listens on", () => {
  it.each(["127.0.0.1", "127.8.8.8", "::1", "localhost"])("may be %s without keys", (host) => {
    expect(parseConfig(configSchema, { AUTELLIX_HOST: host }).host).toBe(host);
  });

  it.each(["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example"])("may not be %s without keys", (host) => {
    expect(() => parseConfig(configSchema, { AUTELLIX_HOST: host })).toThrow(ConfigError);
  });

  it("may be any with keys, or when something else guards it", () => {
    expect(parseConfig(configSchema, { ...anywhere, AUTELLIX_API_KEYS_FILE: "/keys.json" }).host).toBe("0.0.0.0");
    expect(parseConfig(configSchema, { ...anywhere, AUTELLIX_WITHOUT_KEYS: "anywhere" }).host).toBe("0.0.0.0");
    expect(() => parseConfig(configSchema, { ...anywhere, AUTELLIX_WITHOUT_KEYS: "loopback" })).toThrow(ConfigError);
  });
});
