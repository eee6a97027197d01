/** The queries of our Grafana dashboards and Prometheus rules, as Prometheus gets them. */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const INFRA = resolve(import.meta.dirname, "../../infra");

export interface Query {
  /** `overview.json: Calls` or `alerts.rules.yml: AutellixNoLeader`. */
  where: string;
  expr: string;
}

interface Panel {
  title: string;
  targets?: { expr: string }[];
}

/** What Grafana puts in the place of its variables. */
function filled(expr: string, intervalS: number): string {
  return expr.replaceAll("$__rate_interval", `${intervalS}s`).replaceAll("$pool", ".*");
}

export function dashboardQueries(intervalS: number): Query[] {
  return filesOf("grafana", ".json").flatMap(({ name, text }) => {
    const board = JSON.parse(text) as { panels: Panel[]; annotations: { list: { name: string; expr: string }[] } };
    const panels = board.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
    const notes = board.annotations.list.map(({ name: title, expr }) => ({ title, expr }));
    return [...panels, ...notes].map(({ title, expr }) => ({
      where: `${name}: ${title}`,
      expr: filled(expr, intervalS),
    }));
  });
}

/** @param of the group, as Prometheus's API of rules gives it. */
export interface LoadedRules {
  groups: {
    file: string;
    rules: { name: string; query: string; type: string; health: string; lastError?: string }[];
  }[];
}

export function ruleQueries({ groups }: LoadedRules): Query[] {
  return groups.flatMap(({ file, rules }) =>
    rules.map(({ name, query }) => ({ where: `${file.split("/").at(-1)}: ${name}`, expr: query })),
  );
}

/**
 * What a query compares: the condition of an alert has data only while it is true, what it looks at has some always.
 * `a > 1 and b == 0` → `a`, `b`.
 */
export function comparedParts(expr: string): string[] {
  return expr
    .split(/\s(?:and|or|unless(?:\s+on\s*\([^)]*\))?)\s/)
    .map((part) => part.replace(/\s(==|!=|>|<|>=|<=)\s[0-9.]+\s*$/, "").trim())
    .filter((part) => part !== "");
}

/** Names of metrics in a query; recorded ones have colons. */
export function metricsIn(expr: string): string[] {
  const bare = expr.replace(/"[^"]*"/g, '""').replace(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, "");
  return [
    ...new Set(bare.match(/\b(?:up|(?:autellix|process|nodejs)_[a-z0-9_]+|[a-z]+:[a-z0-9_]+:[a-z0-9]+)\b/g) ?? []),
  ];
}

function filesOf(folder: string, ending: string): { name: string; text: string }[] {
  const path = join(INFRA, folder);
  return readdirSync(path)
    .filter((name) => name.endsWith(ending))
    .map((name) => ({ name, text: readFileSync(join(path, name), "utf8") }));
}
