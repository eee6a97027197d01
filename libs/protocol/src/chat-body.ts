/**
 * The body of a call, checked: by frontends (HTTP) and by agents (bodies that outside publishers put on the queue). What
 * every engine may serve becomes a `ChatCall`; what only a server behind an engine can serve is listed in `foreign`.
 */
import { z } from "zod";
import type { ChatCall, ResponseFormat, ToolChoice, ToolDefinition } from "./chat.ts";
import { FieldNames, MESSAGES_MAX, readMessage, TOOL_NAME_CHARS_MAX, typedSchema } from "./chat-messages.ts";
import { validate } from "./codec.ts";
import { AutellixError } from "./errors.ts";

export const STOP_SEQUENCES_MAX = 4;
/** An agent holds text back that could begin a stop sequence, and compares with each token. */
export const STOP_SEQUENCE_CHARS_MAX = 1_000;
/** Of one call; an engine may compile each into a grammar. OpenAI takes 128. */
export const TOOLS_MAX = 1_000;
/** Length of one schema as JSON, of a tool or of the answer. */
export const SCHEMA_CHARS_MAX = 128 * 1024;
export const TOP_LOGPROBS_MAX = 20;
/** Levels of lists and objects in a body: who follows it recursively must not run out of stack. */
export const BODY_DEPTH_MAX = 100;
/** Fields of a body itself; OpenAI's API knows some forty. */
export const BODY_FIELDS_MAX = 1_000;
/** Fields that `ChatCall.foreign` names; there may be more. */
export const FOREIGN_FIELDS_MAX = 100;
/** Names of unknown parameters are cut to it. */
const PARAM_CHARS_MAX = 100;

const optional = <T extends z.ZodType>(schema: T) => schema.nullish();
const stopSequence = z.string().max(STOP_SEQUENCE_CHARS_MAX);
/** The count first: a fault of each of a million entries is more than zod can hold. */
const stopSequences = z.array(z.unknown()).max(STOP_SEQUENCES_MAX).pipe(z.array(stopSequence));

const SEED_MAX = 2 ** 63;

const body = z.object({
  model: z.string().min(1).optional(),
  messages: z.array(z.unknown()).min(1, "must have at least one message").max(MESSAGES_MAX),
  stream: optional(z.boolean()),
  stream_options: optional(z.object({ include_usage: optional(z.boolean()) })),
  n: optional(z.int()),
  max_tokens: optional(z.int().positive()),
  max_completion_tokens: optional(z.int().positive()),
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().min(0).max(1)),
  // Of 64 bits at most; what is above 53 comes rounded out of JSON, the same each time.
  seed: optional(z.number().refine(Number.isInteger, "must be a whole number").min(-SEED_MAX).max(SEED_MAX)),
  stop: optional(z.union([stopSequence, stopSequences])),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  logprobs: optional(z.boolean()),
  top_logprobs: optional(z.int().min(0).max(TOP_LOGPROBS_MAX)),
  tools: optional(z.array(z.unknown()).max(TOOLS_MAX)),
  tool_choice: optional(z.union([z.enum(["none", "auto", "required"]), typedSchema])),
  parallel_tool_calls: optional(z.boolean()),
  response_format: optional(typedSchema),
  metadata: optional(z.custom(isObject, "must be an object")),
});

/** Foreign parameters of OpenAI's API: only their types are checked here. */
const foreignBody = z.object({
  logit_bias: optional(z.custom(isObject, "must be an object")),
  functions: optional(z.array(z.unknown())),
  modalities: optional(z.array(z.unknown())),
});

/** Kept as it is, without a copy. */
const jsonSchema = z
  .custom<Record<string, unknown>>(isObject, { error: "must be an object", abort: true })
  .refine((schema) => JSON.stringify(schema).length <= SCHEMA_CHARS_MAX, {
    error: `must have at most ${SCHEMA_CHARS_MAX} characters as JSON`,
  });
const toolName = z.string().min(1).max(TOOL_NAME_CHARS_MAX);
const toolSchema = z.object({
  function: z.object({ name: toolName, description: optional(z.string()), parameters: optional(jsonSchema) }),
});
const namedToolSchema = z.object({ function: z.object({ name: toolName }) });
const answerSchema = z.object({ json_schema: z.object({ schema: optional(jsonSchema) }) });

type Body = z.output<typeof body>;

/** Parameters that change nothing of the answer's text: accepted with any value. */
const IGNORED = new Set([
  "user",
  "store",
  "metadata",
  "service_tier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "safety_identifier",
]);
const SERVED = new Set(Object.keys(body.shape));

/**
 * Neutral values of foreign parameters: the answer is the same with and without them. A map, because a plain object also
 * has the keys `constructor` and `toString`.
 */
const NEUTRAL = new Map<string, (value: unknown) => boolean>([
  ["logit_bias", (v) => isObject(v) && Object.keys(v).length === 0],
  ["functions", (v) => Array.isArray(v) && v.length === 0],
  ["function_call", (v) => v === "none" || v === "auto"],
  ["modalities", (v) => Array.isArray(v) && v.length === 1 && v[0] === "text"],
]);

/**
 * @throws AutellixError `invalid_request` naming the field at fault. `unsupported_parameter` for an `n` other than 1,
 * which no engine serves: a call has one answer. A parameter that would change the answer is never ignored: it is in the
 * result, or named in its `foreign`.
 */
export function parseChat(value: unknown): ChatCall {
  if (!isObject(value)) throw new AutellixError("invalid_request", "the body must be an object");
  checkWidth(value);
  checkDepth(value);
  const parsed = validate(body, value);
  validate(foreignBody, value);
  if (parsed.n != null && parsed.n !== 1) {
    throw new AutellixError("unsupported_parameter", "n must be 1: a call has one answer", { param: "n" });
  }
  const foreign = new FieldNames(FOREIGN_FIELDS_MAX);
  const messages = parsed.messages.map((given, index) => readMessage(given, ["messages", index], foreign));
  const tools = readTools(parsed, foreign);
  const toolChoice = readToolChoice(parsed, value, tools, foreign);
  const responseFormat = readResponseFormat(parsed, value, foreign);
  addForeignParameters(value, foreign);
  return {
    model: parsed.model,
    messages,
    stream: parsed.stream ?? false,
    includeUsage: parsed.stream_options?.include_usage ?? false,
    completionTokensMax: parsed.max_completion_tokens ?? parsed.max_tokens ?? undefined,
    temperature: parsed.temperature ?? 1,
    topP: parsed.top_p ?? 1,
    seed: parsed.seed ?? undefined,
    stop: (typeof parsed.stop === "string" ? [parsed.stop] : (parsed.stop ?? [])).filter((s) => s !== ""),
    frequencyPenalty: parsed.frequency_penalty ?? 0,
    presencePenalty: parsed.presence_penalty ?? 0,
    tools,
    toolChoice,
    parallelToolCalls: parsed.parallel_tool_calls ?? true,
    responseFormat,
    logprobs: readLogprobs(parsed),
    foreign: foreign.names,
  };
}

/**
 * For engines that answer from the `ChatCall` alone.
 * @throws AutellixError `unsupported_parameter` naming the first field that is not in it.
 */
export function refuseForeign({ foreign }: ChatCall): void {
  const [param] = foreign;
  if (param === undefined) return;
  throw new AutellixError("unsupported_parameter", `${param} is not supported by the engine of this model`, { param });
}

/** Each field costs all who read the body: hundreds of thousands would stall a frontend for seconds. */
function checkWidth(value: Record<string, unknown>): void {
  let fields = 0;
  for (const _ in value) if (++fields > BODY_FIELDS_MAX) break;
  if (fields > BODY_FIELDS_MAX)
    throw new AutellixError("invalid_request", `the body must have at most ${BODY_FIELDS_MAX} fields`);
}

/** Without recursion: this is what keeps others from running out of stack. */
function checkDepth(value: Record<string, unknown>): void {
  for (const [key, field] of Object.entries(value)) {
    if (typeof field !== "object" || field === null) continue;
    let level: object[] = [];
    let next: object[] = [];
    const add = (given: unknown) => {
      if (typeof given === "object" && given !== null && !ArrayBuffer.isView(given)) next.push(given);
    };
    add(field);
    for (let depth = 1; next.length > 0; depth++) {
      if (depth >= BODY_DEPTH_MAX) {
        const param = key.slice(0, PARAM_CHARS_MAX);
        const message = `${param}: must be nested at most ${BODY_DEPTH_MAX} levels deep`;
        throw new AutellixError("invalid_request", message, { param });
      }
      level = next;
      next = [];
      for (const nested of level) {
        if (Array.isArray(nested)) for (const entry of nested) add(entry);
        else for (const entry of Object.values(nested)) add(entry);
      }
    }
  }
}

function readTools({ tools }: Body, foreign: FieldNames): ToolDefinition[] {
  return (tools ?? []).flatMap((given, index) => {
    const at = ["tools", index];
    if (validate(typedSchema, given, at).type !== "function") {
      foreign.add([...at, "type"]);
      return [];
    }
    const { name, description, parameters } = validate(toolSchema, given, at).function;
    return [{ name, ...(description == null ? {} : { description }), ...(parameters == null ? {} : { parameters }) }];
  });
}

function readToolChoice(
  { tools, tool_choice: choice }: Body,
  value: Record<string, unknown>,
  known: readonly ToolDefinition[],
  foreign: FieldNames,
): ToolChoice {
  const hasTools = tools != null && tools.length > 0;
  if (choice == null || choice === "auto") return hasTools ? "auto" : "none";
  if (choice === "none") return "none";
  if (choice !== "required" && choice.type !== "function") {
    foreign.add(["tool_choice", "type"]);
    return hasTools ? "auto" : "none";
  }
  if (!hasTools) throw new AutellixError("invalid_request", "tool_choice: needs tools", { param: "tool_choice" });
  if (choice === "required") return "required";
  const { name } = validate(namedToolSchema, value.tool_choice, ["tool_choice"]).function;
  if (known.some((tool) => tool.name === name)) return { name };
  const param = "tool_choice.function.name";
  throw new AutellixError("invalid_request", `${param}: must be the name of one of the tools`, { param });
}

function readResponseFormat(
  { response_format: format }: Body,
  { response_format: value }: Record<string, unknown>,
  foreign: FieldNames,
): ResponseFormat {
  const type = format?.type ?? "text";
  if (type === "json_schema") {
    const { schema } = validate(answerSchema, value, ["response_format"]).json_schema;
    return schema == null ? { type: "json_object" } : { type, schema };
  }
  if (type !== "text" && type !== "json_object") {
    foreign.add(["response_format", "type"]);
    return { type: "text" };
  }
  // Some servers take a schema with the other types, too; to OpenAI it is unknown.
  if (isObject(value) && value.schema != null) foreign.add(["response_format", "schema"]);
  return { type };
}

function readLogprobs({ logprobs, top_logprobs: alternatives }: Body): number | undefined {
  if (logprobs === true) return alternatives ?? 0;
  if (alternatives == null || alternatives === 0) return undefined;
  throw new AutellixError("invalid_request", "top_logprobs: needs logprobs", { param: "top_logprobs" });
}

function addForeignParameters(value: Record<string, unknown>, foreign: FieldNames): void {
  for (const [key, given] of Object.entries(value)) {
    if (SERVED.has(key) || IGNORED.has(key) || given === null || given === undefined) continue;
    if (!NEUTRAL.get(key)?.(given)) foreign.add([key.slice(0, PARAM_CHARS_MAX)]);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
