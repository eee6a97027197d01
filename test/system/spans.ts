/** A trace as Jaeger gives it, as a tree, and what can be asked of one. */
import type { JaegerSpan, JaegerTrace } from "../equipment/jaeger.ts";

export interface SpanTree {
  spans: readonly JaegerSpan[];
  roots: readonly JaegerSpan[];
  /** Those whose parent is not in the trace. */
  orphans: readonly JaegerSpan[];
  childrenOf(span: JaegerSpan): readonly JaegerSpan[];
  /** The span and everything below it. */
  below(span: JaegerSpan): JaegerSpan[];
}

export function treeOf({ spans }: JaegerTrace): SpanTree {
  const ids = new Set(spans.map(({ spanID }) => spanID));
  const children = new Map<string, JaegerSpan[]>();
  const roots: JaegerSpan[] = [];
  const orphans: JaegerSpan[] = [];
  for (const span of spans) {
    const parent = parentOf(span);
    if (parent === undefined) roots.push(span);
    else if (!ids.has(parent)) orphans.push(span);
    else children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const childrenOf = (span: JaegerSpan) => children.get(span.spanID) ?? [];
  const below = (span: JaegerSpan): JaegerSpan[] => [span, ...childrenOf(span).flatMap(below)];
  return { spans, roots, orphans, childrenOf, below };
}

function parentOf({ references }: JaegerSpan): string | undefined {
  return references.find(({ refType }) => refType === "CHILD_OF")?.spanID;
}

export function tagOf({ tags }: JaegerSpan, key: string): unknown {
  return tags.find((tag) => tag.key === key)?.value;
}

/** Time that the spans cover together, in µs: where two lie over each other it counts once. */
export function covered(spans: readonly JaegerSpan[]): number {
  let sum = 0;
  let until = Number.NEGATIVE_INFINITY;
  for (const { startTime, duration } of [...spans].sort((a, b) => a.startTime - b.startTime)) {
    const end = startTime + duration;
    sum += Math.max(0, end - Math.max(until, startTime));
    until = Math.max(until, end);
  }
  return sum;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
