/** Spans on their way to a collector, and what happens when it is away. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type SpanData, spanText, traceIdOf } from "@autellix/protocol";
import { pino } from "pino";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { openSpans, parseConfig, SPANS_WAITING_MAX, spansConfig, spansSetup } from "../src/index.ts";

interface Message {
  resourceSpans: { scopeSpans: { spans: { name: string }[] }[] }[];
}

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((done) => server.close(done));
});

/** A collector that keeps what it gets. */
async function collector(status = 200, answer = "") {
  const bodies: Buffer[] = [];
  const paths: string[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      bodies.push(Buffer.concat(parts));
      paths.push(request.url ?? "");
      response.writeHead(status, { connection: "close" }).end(answer);
    });
  });
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, paths, bodies, text: () => Buffer.concat(bodies).toString("latin1") };
}

function lines() {
  const said: { msg: string; dropped?: number }[] = [];
  const log = pino({ base: null }, { write: (text) => void said.push(JSON.parse(text)) });
  return { said, log };
}

const span = (name: string): SpanData => ({
  ...{ traceId: traceIdOf("t", "p"), spanId: "b7ad6b7169203331", name },
  ...{ startMs: 1_700_000_000_000.5, endMs: 1_700_000_000_001 },
  attributes: { "autellix.call": "c", "autellix.program": "x".repeat(5_000), missing: undefined },
});

const envOf = (env: Record<string, string>) => spansSetup(parseConfig(z.object(spansConfig), env));

describe("the configuration", () => {
  it("without an endpoint, or with a share of 0, traces nothing", () => {
    expect(envOf({})).toBeUndefined();
    expect(envOf({ AUTELLIX_OTLP_URL: "http://h:4318", AUTELLIX_TRACE_SAMPLE: "0" })).toBeUndefined();
  });

  it("takes the endpoint by its own and by OpenTelemetry's names", () => {
    const url = "http://h:4318/v1/traces";
    expect(envOf({ AUTELLIX_OTLP_URL: "http://h:4318" })).toEqual({ url, sample: 1 });
    expect(envOf({ AUTELLIX_OTLP_URL: "http://h:4318/v1/traces" })?.url).toBe(url);
    expect(envOf({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://h:4318/" })?.url).toBe(url);
    expect(envOf({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://h/any" })?.url).toBe("http://h/any");
    expect(envOf({ AUTELLIX_OTLP_URL: "http://h:4318", AUTELLIX_TRACE_SAMPLE: "0.25" })?.sample).toBe(0.25);
  });

  it.each([{ AUTELLIX_OTLP_URL: "4318" }, { AUTELLIX_OTLP_URL: "grpc://h:4317" }, { AUTELLIX_TRACE_SAMPLE: "2" }])(
    "refuses %j in a line that names it",
    (env) => {
      expect(() => envOf(env as unknown as Record<string, string>)).toThrow(Object.keys(env)[0]);
    },
  );
});

describe("spans", () => {
  it("arrive as OTLP, with those that wait at the stop, names cut to what is bearable", async () => {
    const { url, paths, text } = await collector();
    const { log, said } = lines();
    const sink = await openSpans({ url: `${url}/v1/traces`, sample: 1 }, { service: "test", instance: "i-1", log });
    sink.send([span("first"), { ...span("second"), shared: true }]);
    await sink.stop();
    expect(paths).toEqual(["/v1/traces"]);
    for (const word of ["first", "second", "autellix-test", "i-1", "autellix.call"]) expect(text()).toContain(word);
    expect(text()).not.toContain("x".repeat(257));
    expect(text()).not.toContain("missing");
    expect(sink.counts()).toEqual({ sent: 2, dropped: 0 });
    expect(said).toEqual([]);
  });

  it("are dropped, counted and told once when the collector refuses them, and nothing throws", async () => {
    const { url } = await collector(400);
    const { log, said } = lines();
    const secret = `${url.replace("//", "//user:s3cret@")}/v1/traces?token=K`;
    const sink = await openSpans({ url: secret, sample: 1 }, { service: "test", instance: "i-1", log });
    for (let index = 0; index < 200; index++) sink.send([span("lost")]);
    await sink.stop();
    expect(sink.counts()).toEqual({ sent: 0, dropped: 200 });
    const shown = `${url}/v1/traces`;
    expect(said).toMatchObject([{ msg: "spans were dropped: the collector is away", url: shown }]);
  });

  it("that a collector does not take are counted as dropped, and its words are in the log", async () => {
    const { url } = await collector(200, '{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}');
    const { log, said } = lines();
    const sink = await openSpans({ url: `${url}/v1/traces`, sample: 1 }, { service: "test", instance: "i-1", log });
    sink.send([span("a"), span("b"), span("c")]);
    await sink.stop();
    expect(sink.counts()).toEqual({ sent: 1, dropped: 2 });
    expect(said).toMatchObject([{ reason: "too old" }]);
  });

  it("are told to a collector as it wants them: one message, each resource once, valid JSON", async () => {
    const { url, text } = await collector();
    const { log } = lines();
    const sink = await openSpans({ url: `${url}/v1/traces`, sample: 1 }, { service: "test", instance: "i-1", log });
    sink.send([span("own 1"), { ...span("shared 1"), shared: true }, span("own 2"), spanText(span("shared 2"))]);
    await sink.stop();
    const { resourceSpans } = JSON.parse(text()) as Message;
    const names = resourceSpans.map(({ scopeSpans }) =>
      scopeSpans.flatMap(({ spans }) => spans.map(({ name }) => name)),
    );
    expect(names).toEqual([
      ["shared 1", "shared 2"],
      ["own 1", "own 2"],
    ]);
  });

  it("that are made later are made together or at the stop, and arrive once, each message whole", async () => {
    const { url, bodies } = await collector();
    const { log } = lines();
    const sink = await openSpans({ url: `${url}/v1/traces`, sample: 1 }, { service: "test", instance: "i-1", log });
    let made = 0;
    const later = (call: number) => () => {
      made++;
      return [span(`a${call}`), { ...span(`b${call}`), shared: true as const }];
    };
    for (let call = 0; call < 15; call++) sink.send([spanText(span(`c${call}`)), later(call)]);
    expect(made).toBe(0);
    sink.send([later(15)]);
    expect(made).toBe(16);
    // More than a message takes: those that are waiting go with it.
    for (let call = 16; call < 1_000; call++) sink.send([later(call)]);
    await sink.stop();
    expect(made).toBe(1_000);
    expect(sink.counts()).toEqual({ sent: 2_015, dropped: 0 });
    const messages = bodies.map((body) => JSON.parse(body.toString()) as Message);
    const names = messages.flatMap(({ resourceSpans }) =>
      resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans.map(({ name }) => name))),
    );
    expect(messages.length).toBe(4);
    expect(new Set(names).size).toBe(2_015);
    expect(names).toHaveLength(2_015);
  });

  it("above the limit are dropped at once", async () => {
    const { url } = await collector();
    const { log } = lines();
    const sink = await openSpans({ url: `${url}/v1/traces`, sample: 1 }, { service: "test", instance: "i-1", log });
    sink.send(Array.from({ length: SPANS_WAITING_MAX + 500 }, () => span("many")));
    expect(sink.counts().dropped).toBeGreaterThan(0);
    expect(sink.counts().dropped).toBeLessThanOrEqual(500);
    await sink.stop();
  });
});
