import { LOG_FIELDS } from "@autellix/runtime";
import { describe, expect, it } from "vitest";
import { sources } from "./source.ts";

/** The command line speaks to a person, not to a log. */
const services = sources().filter(
  ({ path, ships }) => ships && /^(services|libs\/runtime)\//.test(path) && !path.startsWith("services/cli/"),
);
const CALL = /\blog(?:\.(?:trace|debug|info|warn|error|fatal)|\[[a-zA-Z.]+\])\(\s*/g;

/** Each log call: its fields as far as they stand there, and what stands for its sentence. */
function calls(code: string): { fields: string[]; sentence: string }[] {
  return [...code.matchAll(CALL)].map(({ index, 0: begin }) => {
    const rest = code.slice(index + begin.length);
    const object = /^(?:\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|[a-zA-Z.]+)\s*,\s*/.exec(rest);
    const sentence = rest.slice(object?.[0].length ?? 0);
    const fields = (object?.[1] ?? "")
      .split(",")
      .map((field) => field.trim().split(":", 1)[0] ?? "")
      .filter((field) => /^[a-zA-Z]+$/.test(field));
    return { fields, sentence };
  });
}

describe("a log line (docs/OPERATIONS.md, Logs)", () => {
  it("is found at all", () => {
    expect(services.flatMap(({ code }) => calls(code)).length).toBeGreaterThan(40);
    expect(calls('this.#log.warn({ call: key, err: { a: 1 } }, "text")')).toEqual([
      { fields: ["call", "err"], sentence: '"text")' },
    ]);
  });

  it("has no field that the table does not know", () => {
    const unknown = services.flatMap(({ path, code }) =>
      calls(code).flatMap(({ fields }) =>
        fields.filter((field) => !(field in LOG_FIELDS)).map((field) => `${path}: ${field}`),
      ),
    );
    expect(unknown).toEqual([]);
  });

  it("has a constant sentence", () => {
    const made = services.flatMap(({ path, code }) =>
      calls(code)
        .filter(({ sentence }) => /^`[^`]*\$\{/.test(sentence))
        .map(({ sentence }) => `${path}: ${sentence.split("\n", 1)[0]}`),
    );
    expect(made).toEqual([]);
  });
});
