/** Grammars (GBNF) of JSON texts. */
import { SchemaRules } from "./schema-rules.ts";

/** Rules that need no schema. No escape gives half a character: they would count as one in `maxLength`. */
const BASE: Record<string, string> = {
  ws: '| " " | "\\n" [ \\t]{0,20}',
  char: '[^"\\\\\\x7F\\x00-\\x1F] | "\\\\" (["\\\\/bfnrt] | "u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))',
  string: '"\\"" char* "\\""',
  natural: '"0" | [1-9] [0-9]{0,15}',
  integer: '"-"? natural',
  fraction: '("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
  number: '"-"? natural fraction',
  boolean: '"true" | "false"',
  null: '"null"',
  any: "object | array | string | number | boolean | null",
  object: '"{" ws (member ("," ws member)*)? ws "}"',
  member: 'string ":" " "? any',
  array: '"[" ws (any ("," ws any)*)? ws "]"',
};

/** Collects the rules of one grammar. */
export class JsonGrammar {
  readonly #rules = new Map<string, string>(Object.entries(BASE));

  /** @returns the name of a rule of any JSON object. */
  get object(): string {
    return "object";
  }

  /**
   * @param field where the schema stands in the request.
   * @returns the name of a rule whose texts satisfy the schema.
   * @throws AutellixError `unsupported_parameter` naming the keyword that cannot be enforced.
   */
  schema(schema: unknown, field: string): string {
    return new SchemaRules(schema, this.#rules).rule(schema, field);
  }

  /** @param root the body of the first rule. */
  text(root: string): string {
    return [`root ::= ${root}`, ...[...this.#rules].map(([name, body]) => `${name} ::= ${body}`)].join("\n");
  }
}
