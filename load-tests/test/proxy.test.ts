import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { proxyConfig } from "../src/frontends/proxy.ts";

it("puts a stack's frontends into the shipped configuration, and changes nothing else of how calls travel", async () => {
  const shipped = await readFile(join(import.meta.dirname, "../../infra/haproxy/haproxy.cfg"), "utf8");
  const text = proxyConfig(shipped, 1234, [8080, 8081]);
  expect(text.match(/^ {2}server frontend-\d 127\.0\.0\.1:\d+$/gm)).toHaveLength(4);
  expect(text).not.toMatch(/resolvers|server-template|:8404/);
  for (const line of ["option abortonclose", "balance leastconn", "timeout server  3660s", "bind 127.0.0.1:1234"])
    expect(text).toContain(line);
  expect(() => proxyConfig(shipped.replaceAll("server-template", "server"), 1234, [8080])).toThrow("has changed");
});
