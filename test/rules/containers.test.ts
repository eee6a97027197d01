import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "./source.ts";

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

describe("infra/Dockerfile", () => {
  it("installs from the manifests of all workspaces", () => {
    const { workspaces } = JSON.parse(read("package.json")) as { workspaces: string[] };
    const folders = workspaces.flatMap((pattern) => {
      const [group = ""] = pattern.split("/*");
      return pattern === group ? [group] : readdirSync(join(ROOT, group)).map((name) => `${group}/${name}`);
    });
    const copied = [...read("infra/Dockerfile").matchAll(/^COPY (\S+)\/package\.json \1\/$/gm)].map(([, path]) => path);
    expect(copied.sort()).toEqual(folders.sort());
  });

  it("needs no BuildKit", () => {
    expect(read("infra/Dockerfile")).not.toMatch(/^# syntax=|--mount=|--link|<<|COPY .*--(chmod|parents|exclude)/m);
  });
});

describe("docker-compose.yml", () => {
  const text = read("docker-compose.yml");

  it("publishes ports on this machine only", () => {
    const ports = [...text.matchAll(/^\s+ports: \[(.*)\]$/gm)].map(([, list]) => list);
    expect(ports.length).toBeGreaterThan(4);
    for (const port of ports) expect(port).toMatch(/^"127\.0\.0\.1:/);
  });

  it("has every variable in docs/OPERATIONS.md", () => {
    const names = new Set([...text.matchAll(/\$\{([A-Z0-9_]+)/g)].map(([, name]) => name));
    const documented = read("docs/OPERATIONS.md");
    expect([...names].filter((name) => !documented.includes(`\`${name}\``))).toEqual([]);
  });
});
