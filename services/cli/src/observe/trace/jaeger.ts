/** A program's trace as Jaeger's query API has it: every stay on an engine, preemption, swap and gap. */
import { traceIdOf } from "@autellix/protocol";
import { z } from "zod";
import { ReadableError } from "../../usage.ts";
import { duration } from "../text.ts";
import { extentOf, type Part, type Stretch, type Waterfall, type WaterfallRow } from "./waterfall.ts";

const ASK_MS_MAX = 10_000;
const MICROS_PER_MS = 1_000;

const spanSchema = z.object({
  spanID: z.string(),
  operationName: z.string(),
  references: z
    .array(z.object({ refType: z.string(), spanID: z.string(), traceID: z.string().optional() }))
    .default([]),
  /** µs since 1970, and µs. */
  startTime: z.number(),
  duration: z.number(),
  tags: z.array(z.object({ key: z.string(), value: z.unknown() })).default([]),
});
const answerSchema = z.object({
  data: z.array(z.object({ traceID: z.string(), spans: z.array(spanSchema) })).nullable(),
});
type Span = z.infer<typeof spanSchema>;

/** @throws ReadableError: nothing answers there, or it knows no such trace. */
export async function jaegerWaterfall(url: string, tenant: string, program: string): Promise<Waterfall> {
  const spans = await spansOf(url, tenant, program);
  return drawSpans(program, spans);
}

async function spansOf(url: string, tenant: string, program: string): Promise<Span[]> {
  let reply: Response;
  try {
    reply = await fetch(queryUrl(url, traceIdOf(tenant, program)), {
      signal: AbortSignal.timeout(ASK_MS_MAX),
    });
  } catch (error) {
    const { cause, message } = error as Error & { cause?: { code?: string } };
    throw new ReadableError(`Jaeger's query API does not answer at ${url} (${cause?.code ?? message})`);
  }
  if (reply.status !== 404 && !reply.ok)
    throw new ReadableError(`Jaeger's query API at ${url} answers ${reply.status}`);
  const parsed = reply.status === 404 ? undefined : answerSchema.safeParse(await reply.json().catch(() => undefined));
  if (parsed !== undefined && !parsed.success)
    throw new ReadableError(`what answers at ${url} is not Jaeger's query API`);
  const spans = parsed?.data.data?.flatMap((trace) => trace.spans) ?? [];
  if (spans.length === 0) {
    throw new ReadableError(
      `Jaeger at ${url} has no trace of program "${program}" of tenant ${tenant}: is tracing switched on, and the program sampled?`,
    );
  }
  return spans;
}

/** Below the address's own path: Jaeger may stand behind one (`--query.base-path`). */
function queryUrl(url: string, trace: string): URL {
  const at = new URL(url);
  at.pathname = `${at.pathname.replace(/\/+$/, "")}/api/traces/${trace}`;
  at.hash = "";
  return at;
}

/** One row for each call, its time coloured by what it went to, and one for each tool between calls. */
export function drawSpans(program: string, all: readonly Span[]): Waterfall {
  // A span that was sent twice is the same span.
  const spans = [...new Map(all.map((span) => [span.spanID, span])).values()].sort((a, b) => a.startTime - b.startTime);
  const children = new Map<string, Span[]>();
  for (const span of spans) {
    const parent = span.references.find(({ refType }) => refType === "CHILD_OF")?.spanID ?? "";
    const siblings = children.get(parent);
    if (siblings) siblings.push(span);
    else children.set(parent, [span]);
  }
  const calls = spans.filter((span) => tag(span, "gen_ai.operation.name") === "chat");
  const rows = [...calls.map((call) => callRow(call, children)), ...toolRows(spans)].sort(
    (a, b) => beginOf(a) - beginOf(b),
  );
  const { fromMs, toMs } = extentOf(spans.map((span) => stretchOf("running", span))) ?? { fromMs: 0, toMs: 0 };
  return {
    title: `program ${program}: ${duration(toMs - fromMs)}, ${calls.length} call${calls.length === 1 ? "" : "s"}, ${spans.length} spans`,
    rows,
    remarks: [],
  };
}

function callRow(call: Span, children: ReadonlyMap<string, readonly Span[]>): WaterfallRow {
  // The client's request spans all of the call, and says nothing of its parts.
  const below = descendants(call, children).filter(({ operationName }) => !operationName.startsWith("POST "));
  const stretches =
    below.length > 0 ? below.map((span) => stretchOf(partOf(span.operationName), span)) : [stretchOf("running", call)];
  return {
    label: String(tag(call, "autellix.call") ?? call.operationName),
    depth: 0,
    stretches,
    note: noteOf(call, below),
  };
}

/** Calls that came after the same gap all name its tool. */
function toolRows(spans: readonly Span[]): WaterfallRow[] {
  const tools = spans.filter((span) => tag(span, "gen_ai.operation.name") === "execute_tool");
  const gaps = new Map(
    tools.map((span) => [`${span.operationName} ${Math.round(span.startTime / MICROS_PER_MS)}`, span]),
  );
  return [...gaps.values()].map((span) => ({
    label: `tool ${String(tag(span, "gen_ai.tool.name") ?? span.operationName)}`,
    depth: 0,
    stretches: [stretchOf("tool", span)],
    note: duration(span.duration / MICROS_PER_MS),
  }));
}

function beginOf({ stretches }: WaterfallRow): number {
  return extentOf(stretches)?.fromMs ?? 0;
}

function descendants(span: Span, children: ReadonlyMap<string, readonly Span[]>): Span[] {
  const found: Span[] = [];
  const open = [span.spanID];
  const seen = new Set(open);
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    for (const child of children.get(id) ?? []) {
      if (seen.has(child.spanID)) continue;
      seen.add(child.spanID);
      found.push(child);
      open.push(child.spanID);
    }
  }
  return found;
}

const PARTS: readonly [RegExp, Part][] = [
  [/^queue/, "queue"],
  [/prefill|recompute/, "prefill"],
  [/decode/, "decode"],
  [/swap/, "swap"],
  [/park|preempt|fail-over|evict/, "parked"],
];

function partOf(name: string): Part {
  return PARTS.find(([pattern]) => pattern.test(name))?.[1] ?? "running";
}

function stretchOf(part: Part, { startTime, duration: micros }: Span): Stretch {
  return { part, fromMs: startTime / MICROS_PER_MS, toMs: (startTime + micros) / MICROS_PER_MS };
}

function noteOf(call: Span, below: readonly Span[]): string {
  const engines = new Set(
    [call, ...below].map((span) => tag(span, "autellix.engine")).filter((engine) => engine !== undefined),
  );
  const [input, output] = [tag(call, "gen_ai.usage.input_tokens"), tag(call, "gen_ai.usage.output_tokens")];
  const status = String(tag(call, "autellix.status") ?? "");
  const attempt = Number(tag(call, "autellix.attempt") ?? 1);
  return [
    [...engines].join("→"),
    status === "completed" && input !== undefined ? `${input}+${output} tokens` : status,
    ...(attempt > 1 ? [`attempt ${attempt}`] : []),
  ]
    .filter((text) => text !== "")
    .join(" ");
}

function tag(span: Span, key: string): unknown {
  return span.tags.find((one) => one.key === key)?.value;
}
