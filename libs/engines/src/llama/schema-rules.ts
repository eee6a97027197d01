/**
 * JSON schema → rules of a grammar whose texts satisfy it. The library's own translation makes every property required
 * and lets integers be `1e-5`, so its answers do not always validate; this one refuses what it cannot enforce.
 */
import { AutellixError } from "@autellix/protocol";
import { type Bounds, integersWithin, numbersWithin } from "./number-grammar.ts";

type Schema = Record<string, unknown>;

/** llama.cpp's parser takes no larger repetition. */
const REPETITION_MAX = 2_000;
const RULES_MAX = 5_000;

const BOUNDS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] as const;

/** Say nothing about which values are valid. */
const ANNOTATIONS = new Set(
  "$schema $id $comment $defs definitions title description default examples deprecated readOnly writeOnly strict".split(
    " ",
  ),
);
/** Enforced, by the type whose values they bear upon. */
const KEYWORDS: Record<string, ReadonlySet<string>> = {
  object: new Set(["properties", "required", "additionalProperties"]),
  array: new Set(["items", "prefixItems", "minItems", "maxItems"]),
  string: new Set(["minLength", "maxLength", "format"]),
  number: new Set(BOUNDS),
  integer: new Set(BOUNDS),
  boolean: new Set(),
  null: new Set(),
};
const HARMLESS_IF_FALSE = new Set(["uniqueItems", "nullable"]);
const COMBINING = new Set(["$ref", "enum", "const", "anyOf", "oneOf", "allOf", "type"]);

const DATE =
  '[0-9]{4} "-" (("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01]) | ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))';
const TIME =
  '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])';
const HEX = "[0-9a-f]";
const FORMATS: Record<string, string> = {
  date: DATE,
  time: TIME,
  "date-time": `${DATE} "T" ${TIME}`,
  uuid: `${HEX}{8} "-" ${HEX}{4} "-" ${HEX}{4} "-" ${HEX}{4} "-" ${HEX}{12}`,
};

/** A text as GBNF writes it. */
export function literal(text: string): string {
  const escaped = text.replace(/["\\]/g, "\\$&").replace(/\n/g, "\\n").replace(/\r/g, "\\r").replace(/\t/g, "\\t");
  return `"${escaped}"`;
}

export class SchemaRules {
  readonly #document: unknown;
  readonly #rules: Map<string, string>;
  readonly #refs = new Map<string, string>();

  /** @param document what references point into. @param rules of the grammar; new ones are put there. */
  constructor(document: unknown, rules: Map<string, string>) {
    this.#document = document;
    this.#rules = rules;
  }

  /**
   * @returns the name of a rule whose texts satisfy the schema.
   * @throws AutellixError `unsupported_parameter` naming the keyword that cannot be enforced.
   */
  rule(schema: unknown, field: string): string {
    if (this.#rules.size > RULES_MAX) throw refusal(field, "is too large");
    if (schema === true) return "any";
    if (!isSchema(schema)) throw refusal(field, "allows no value");
    const one = combined(schema, field);
    if (typeof one.$ref === "string") return this.#ref(one.$ref, field);
    if ("const" in one) return this.#add(literal(JSON.stringify(one.const)));
    if (Array.isArray(one.enum)) return this.#enum(one.enum, one, field);
    if (Array.isArray(one.anyOf)) return this.#alternatives(one.anyOf, `${field}.anyOf`);
    if (Array.isArray(one.oneOf)) {
      if (!areDisjoint(one.oneOf))
        throw refusal(`${field}.oneOf`, "is supported for values of different types; use anyOf");
      return this.#alternatives(one.oneOf, `${field}.oneOf`);
    }
    const types = typesOf(one, field);
    if (types === undefined) return "any";
    checkKeywords(one, types, field);
    return this.#oneOf(
      types.map((type) => this.#typed(type, one, field)),
      field,
    );
  }

  #add(body: string): string {
    const name = `r${this.#rules.size}`;
    this.#rules.set(name, body);
    return name;
  }

  #enum(values: readonly unknown[], schema: Schema, field: string): string {
    const types = schema.type === undefined ? undefined : typesOf(schema, field);
    const valid = values.filter((value) => types === undefined || types.some((type) => isOfType(value, type)));
    return this.#oneOf(
      valid.map((value) => literal(JSON.stringify(value))),
      field,
    );
  }

  #oneOf(bodies: string[], field: string): string {
    if (bodies.length === 0) throw refusal(field, "allows no value");
    return bodies.length === 1 && bodies[0] !== undefined && /^\w+$/.test(bodies[0])
      ? bodies[0]
      : this.#add(bodies.join(" | "));
  }

  #alternatives(schemas: readonly unknown[], field: string): string {
    return this.#oneOf(
      schemas.map((schema, i) => this.rule(schema, `${field}[${i}]`)),
      field,
    );
  }

  /** The rule has its name before it has its body: schemas may be recursive. */
  #ref(ref: string, field: string): string {
    const known = this.#refs.get(ref);
    if (known !== undefined) return known;
    const name = this.#add('""');
    this.#refs.set(ref, name);
    this.#rules.set(name, this.rule(resolve(this.#document, ref, field), field));
    return name;
  }

  #typed(type: string, schema: Schema, field: string): string {
    if (type === "object") return this.#object(schema, field);
    if (type === "array") return this.#array(schema, field);
    if (type === "string") return this.#string(schema, field);
    if (type === "number" || type === "integer") return this.#number(type, schema, field);
    return type;
  }

  /** Properties in their order; optional ones may be left out. Further ones only where no name could be taken twice. */
  #object(schema: Schema, field: string): string {
    const properties = new Map(isSchema(schema.properties) ? Object.entries(schema.properties) : []);
    const required = new Set(Array.isArray(schema.required) ? schema.required.map(String) : []);
    const further = schema.additionalProperties ?? true;
    for (const name of required) {
      if (properties.has(name)) continue;
      if (further === false) throw refusal(`${field}.required`, "names a property that is not allowed");
      properties.set(name, further);
    }
    if (properties.size === 0) {
      if (further === false) return this.#add('"{" ws "}"');
      const member = this.#add(`string ":" " "? ${this.rule(further, `${field}.additionalProperties`)}`);
      return this.#add(`"{" ws (${member} ("," ws ${member})*)? ws "}"`);
    }
    // From the last one on: what may follow when something stands before it, and when nothing does.
    let [after, first] = ['""', '""'];
    for (const [name, property] of [...properties].reverse()) {
      const value = this.rule(property, `${field}.properties.${name}`);
      const member = `${literal(JSON.stringify(name))} ":" " "? ${value}`;
      const [later, sooner] = [`"," ws ${member} ${after}`, `${member} ${after}`];
      [after, first] = required.has(name)
        ? [this.#add(later), this.#add(sooner)]
        : [this.#add(`${later} | ${after}`), this.#add(`${sooner} | ${first}`)];
    }
    return this.#add(`"{" ws ${first} ws "}"`);
  }

  #array(schema: Schema, field: string): string {
    const heads = Array.isArray(schema.prefixItems)
      ? schema.prefixItems.map((item, i) => this.rule(item, `${field}.prefixItems[${i}]`))
      : [];
    const least = bound(schema.minItems, `${field}.minItems`) ?? 0;
    const most = schema.items === false ? heads.length : bound(schema.maxItems, `${field}.maxItems`);
    if (most !== undefined && most < Math.max(least, heads.length)) throw refusal(field, "allows no value");
    const item = schema.items === false ? "any" : this.rule(schema.items ?? true, `${field}.items`);
    const min = Math.max(0, least - heads.length);
    const max = most === undefined ? "" : most - heads.length;
    if (heads.length > 0) return this.#add(`"[" ws ${heads.join(' "," ws ')} ("," ws ${item}){${min},${max}} ws "]"`);
    if (most === 0) return this.#add('"[" ws "]"');
    const list = `${item} ("," ws ${item}){${Math.max(0, min - 1)},${max === "" ? "" : max - 1}}`;
    return this.#add(`"[" ws ${min === 0 ? `(${list})?` : list} ws "]"`);
  }

  #string(schema: Schema, field: string): string {
    const [min, max] = [bound(schema.minLength, `${field}.minLength`), bound(schema.maxLength, `${field}.maxLength`)];
    if (typeof schema.format === "string") {
      const format = Object.hasOwn(FORMATS, schema.format) ? FORMATS[schema.format] : undefined;
      if (format === undefined || min !== undefined || max !== undefined) throw refusal(`${field}.format`);
      return this.#add(`"\\"" ${format} "\\""`);
    }
    if (min === undefined && max === undefined) return "string";
    if (max !== undefined && max < (min ?? 0)) throw refusal(field, "allows no value");
    return this.#add(`"\\"" char{${min ?? 0},${max ?? ""}} "\\""`);
  }

  #number(type: "number" | "integer", schema: Schema, field: string): string {
    const bounds: Bounds = {};
    for (const key of BOUNDS) {
      const value = schema[key];
      if (value === undefined || value === null) continue;
      if (typeof value !== "number") throw refusal(`${field}.${key}`, "must be a number");
      bounds[key] = value;
    }
    if (Object.keys(bounds).length === 0) return type;
    return this.#oneOf(type === "integer" ? integersWithin(bounds) : numbersWithin(bounds), field);
  }
}

/** `allOf` of one schema, as generators write it around references. */
function combined(schema: Schema, field: string): Schema {
  const kinds = ["$ref", "enum", "const", "anyOf", "oneOf", "allOf"].filter((key) => key in schema);
  for (const key of Object.keys(schema)) {
    // Beside a choice, `type` only repeats what the values say; anything else would narrow it.
    if (kinds.length > 0 && !kinds.includes(key) && key !== "type" && !ANNOTATIONS.has(key))
      throw refusal(`${field}.${key}`);
  }
  if (kinds.length > 1) throw refusal(`${field}.${kinds[1]}`);
  if (!("allOf" in schema)) return schema;
  const [one, ...more] = Array.isArray(schema.allOf) ? schema.allOf : [];
  if (more.length > 0 || !isSchema(one)) throw refusal(`${field}.allOf`);
  return combined(one, `${field}.allOf[0]`);
}

function isOfType(value: unknown, type: string): boolean {
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return isSchema(value);
  return type === "integer" ? Number.isInteger(value) : typeof value === type;
}

function typesOf(schema: Schema, field: string): string[] | undefined {
  const { type } = schema;
  if (type === undefined) {
    const implied = Object.keys(KEYWORDS).find((name) => Object.keys(schema).some((key) => KEYWORDS[name]?.has(key)));
    const unknown = Object.keys(schema).find((key) => !ANNOTATIONS.has(key) && !COMBINING.has(key));
    if (implied === undefined && unknown !== undefined) throw refusal(`${field}.${unknown}`);
    return implied === undefined ? undefined : [implied];
  }
  const types = (Array.isArray(type) ? type : [type]).map(String);
  for (const name of types) if (!Object.hasOwn(KEYWORDS, name)) throw refusal(`${field}.type`, "is no JSON type");
  return types;
}

function checkKeywords(schema: Schema, types: readonly string[], field: string): void {
  for (const [key, value] of Object.entries(schema)) {
    if (ANNOTATIONS.has(key) || COMBINING.has(key) || types.some((type) => KEYWORDS[type]?.has(key))) continue;
    // Keywords of other types, and those that forbid nothing.
    if (Object.values(KEYWORDS).some((known) => known.has(key)) || value === null) continue;
    if (value === false && HARMLESS_IF_FALSE.has(key)) continue;
    throw refusal(`${field}.${key}`);
  }
}

/** Whether no value can satisfy two of them, as far as types tell. */
function areDisjoint(schemas: readonly unknown[]): boolean {
  const types = schemas.flatMap((schema) => {
    const type = isSchema(schema) ? schema.type : undefined;
    return Array.isArray(type) ? type : [type];
  });
  const kinds = types.map((type) => (type === "integer" ? "number" : type));
  return !kinds.includes(undefined) && new Set(kinds).size === kinds.length;
}

function resolve(document: unknown, ref: string, field: string): unknown {
  let found = document;
  const [base, ...path] = ref.split("/");
  for (const part of path) {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    found = isSchema(found) && Object.hasOwn(found, key) ? found[key] : undefined;
  }
  if (base !== "#" || found === undefined) throw refusal(`${field}.$ref`, "points to nothing in this schema");
  return found;
}

function bound(value: unknown, field: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > REPETITION_MAX) {
    throw refusal(field, `must be a whole number up to ${REPETITION_MAX}`);
  }
  return value;
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refusal(field: string, reason = "is not supported by this engine"): AutellixError {
  return new AutellixError("unsupported_parameter", `${field} ${reason}`, { param: field });
}
