/**
 * zod's findings as sentences for the person who wrote the value. They name the field and what it must be, and never
 * repeat the value: error messages are logged, prompts are not.
 */
import type { z } from "zod";

export type Issue = z.core.$ZodIssue;

/** `["messages", 0, "role"]` → `messages[0].role`, as OpenAI's `error.param` writes it. */
export function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === "number") return `${text}[${part}]`;
    return text ? `${text}.${String(part)}` : String(part);
  }, "");
}

/** The finding that says most: inside a union, that of the branch which got furthest. */
export function clearest(issue: Issue): Issue {
  if (issue.code !== "invalid_union" || issue.errors.length === 0) return issue;
  const branches = issue.errors.flatMap((branch) => (branch[0] ? [clearest(branch[0])] : []));
  const deepest = branches.reduce<Issue | undefined>(
    (best, next) => (best === undefined || next.path.length > best.path.length ? next : best),
    undefined,
  );
  if (!deepest) return issue;
  // All branches failed at the union itself: each says another type. A branch that took the type knows more.
  const other = branches.find((branch) => branch.code !== "invalid_type");
  if (deepest.path.length === 0 && other) return { ...other, path: issue.path };
  if (deepest.path.length === 0) return issue;
  return { ...deepest, path: [...issue.path, ...deepest.path] };
}

const typeNames: Record<string, string> = {
  array: "a list",
  object: "an object",
  record: "an object",
  int: "a whole number",
  string: "a string",
  number: "a number",
  boolean: "true or false",
  Uint8Array: "bytes",
};

/** `must be a string`, `is required`, `must be at least 1`, … */
export function sentence(issue: Issue): string {
  // zod's own texts start so; anything else was written by a schema of ours for this very case.
  if (!/^(Invalid|Too |Unrecognized)/.test(issue.message)) return issue.message;
  if (issue.message.endsWith("received undefined")) return "is required";
  switch (issue.code) {
    case "invalid_type":
      return `must be ${typeNames[issue.expected] ?? issue.expected}`;
    case "invalid_value":
      return `must be ${oneOf(issue.values)}`;
    case "too_small":
      return `must ${bound("at least", issue.origin, issue.minimum, issue.inclusive === false ? "greater than" : "at least")}`;
    case "too_big":
      return `must ${bound("at most", issue.origin, issue.maximum, issue.inclusive === false ? "less than" : "at most")}`;
    case "invalid_union":
      return union(issue);
    default:
      return issue.message;
  }
}

function union(issue: Extract<Issue, { code: "invalid_union" }>): string {
  const options = (issue as { options?: unknown }).options;
  if (Array.isArray(options)) return `must be ${oneOf(options)}`;
  const firsts = issue.errors.flatMap((branch) => branch[0] ?? []);
  const expected = firsts.flatMap((first) => (first.code === "invalid_type" ? [first.expected as string] : []));
  if (firsts.some((first) => first.message.endsWith("received undefined"))) return "is required";
  return expected.length > 0 ? `must be ${expected.map((name) => typeNames[name] ?? name).join(" or ")}` : "is invalid";
}

function bound(verb: string, origin: string, limit: unknown, comparison: string): string {
  if (origin === "string") return `have ${verb} ${limit} characters`;
  if (origin === "array") return `have ${verb} ${limit} items`;
  return `be ${comparison} ${limit}`;
}

function oneOf(values: readonly unknown[]): string {
  const texts = values.map(String);
  return texts.length === 1 ? (texts[0] ?? "") : `one of ${texts.join(", ")}`;
}
