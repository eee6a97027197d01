import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { traceIdOf } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { cells } from "../src/observe/text.ts";
import { drawSpans, jaegerWaterfall } from "../src/observe/trace/jaeger.ts";
import { waterfallLines } from "../src/observe/trace/waterfall.ts";

const MICROS = 1_000;
const span = (
  spanID: string,
  operationName: string,
  fromMs: number,
  toMs: number,
  parent?: string,
  tags: Record<string, unknown> = {},
) => ({
  spanID,
  operationName,
  startTime: fromMs * MICROS,
  duration: (toMs - fromMs) * MICROS,
  references: parent === undefined ? [] : [{ refType: "CHILD_OF", spanID: parent }],
  tags: Object.entries(tags).map(([key, value]) => ({ key, value })),
});
const chat = (call: string) => ({
  "gen_ai.operation.name": "chat",
  "autellix.call": call,
  "autellix.status": "completed",
  "gen_ai.usage.input_tokens": 7,
  "gen_ai.usage.output_tokens": 9,
});

const tool = { "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search" };

describe("a waterfall", () => {
  it("of Jaeger's spans has a row for each call, coloured by what its time went to, and each gap", () => {
    const spans = [
      span("root", "program", 0, 0),
      span("c1", "chat m", 0, 1_000, "root", chat("one")),
      span("q1", "queue Q1", 0, 500, "c1"),
      span("s1", "engine", 500, 1_000, "c1", { "autellix.engine": "e1" }),
      span("p1", "prefill", 500, 700, "s1"),
      span("d1", "decode", 700, 1_000, "s1"),
      span("d1", "decode", 700, 1_000, "s1"),
      span("r1", "POST /v1/chat/completions", 0, 1_010, "c1"),
      span("t", "execute_tool search", 1_000, 1_500, "root", tool),
      span("t2", "execute_tool search", 1_000, 1_500, "root", tool),
      span("c2", "chat m", 1_500, 2_000, "root", { ...chat("two"), "autellix.attempt": 2 }),
    ];
    const waterfall = drawSpans("tea", spans);
    expect(waterfall.title).toBe("program tea: 2.0 s, 2 calls, 10 spans");
    expect(waterfall.rows.map(({ label, note }) => [label, note])).toEqual([
      ["one", "e1 7+9 tokens"],
      ["tool search", "500 ms"],
      ["two", "7+9 tokens attempt 2"],
    ]);
    const lines = waterfallLines(waterfall, 80, false);
    for (const line of lines) expect(cells(line)).toBeLessThanOrEqual(80);
    expect(lines[2]).toMatch(/^one +·+▒+█+ +e1 7\+9 tokens$/);
    expect(lines[3]).toMatch(/^tool search +-+ +500 ms$/);
    const [waits, prefill, decode] = [/·+/, /▒+/, /█+/].map((part) => part.exec(lines[2] ?? "")?.[0].length ?? 0);
    // 500, 200 and 300 ms of 2 s.
    expect((waits ?? 0) / (decode ?? 1)).toBeCloseTo(5 / 3, 0);
    expect(prefill).toBeGreaterThan(0);
  });

  it("without calls says so", () => {
    expect(waterfallLines({ title: "program x", rows: [], remarks: [] }, 80, false)).toEqual([
      "program x",
      "no call is known",
    ]);
  });

  it("of more calls than a terminal takes says how many it leaves out, and keeps them for --json", () => {
    const spans = Array.from({ length: 150_000 }, (_, i) =>
      span(`c${i}`, "chat m", i, i + 1, "root", chat(`call-${i}`)),
    );
    const waterfall = drawSpans("many", spans);
    expect(waterfall.rows).toHaveLength(150_000);
    const lines = waterfallLines(waterfall, 80, false);
    expect(lines).toHaveLength(504);
    expect(lines.at(-1)).toBe("149500 later rows are not drawn: --json has them.");
  });
});

describe("Jaeger's query API", () => {
  it("is asked below the path that it stands behind", async () => {
    const asked: (string | undefined)[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url);
      response.setHeader("content-type", "application/json");
      response.end(
        JSON.stringify({
          data: [{ traceID: "t", spans: [{ ...span("c1", "chat m", 0, 5, "root", chat("one")), references: [] }] }],
        }),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    try {
      for (const path of ["", "/", "/jaeger/ui", "/jaeger/ui/"])
        expect((await jaegerWaterfall(`http://127.0.0.1:${port}${path}`, "default", "tea")).rows).toHaveLength(1);
    } finally {
      server.close();
    }
    const trace = `/api/traces/${traceIdOf("default", "tea")}`;
    expect(asked).toEqual([trace, trace, `/jaeger/ui${trace}`, `/jaeger/ui${trace}`]);
  });
});
