import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { createLogger } from "@autellix/runtime";
import type { FastifyInstance } from "fastify";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { bundleAssets } from "../src/assets.ts";
import { createServer, isKnownHost } from "../src/http/server.ts";
import { BROWSERS_MAX } from "../src/hub.ts";
import { Pools } from "../src/pools.ts";
import { Studio } from "../src/replay/studio.ts";
import { programPath } from "../src/shared/paths.ts";
import { call, changes, pool, program } from "./fixture.ts";

const assets = await bundleAssets();
const log = createLogger({ service: "dashboard", level: "silent" });

let pools: Pools;
let studio: Studio;
let server: FastifyInstance;
let feed: ReturnType<Pools["feed"]>;

beforeEach(() => {
  pools = new Pools(log);
  studio = new Studio([]);
  const desk = { pools: () => pools.summaries(), stream: pools.stream.bind(pools), program: pools.program.bind(pools) };
  server = createServer({ assets, desk, replay: studio, hosts: ["dash.example"], log });
  feed = pools.feed("p");
  feed.snapshot({ pool: pool(), atMs: 1, programs: new Map(), calls: new Map(), engines: new Map() });
});

afterEach(async () => {
  pools.stop();
  await server.close();
  await studio.stop();
});

describe("the server", () => {
  it("serves the page, which loads nothing from elsewhere and may not", async () => {
    const answer = await server.inject("/pools/p");
    expect(answer.statusCode).toBe(200);
    expect(answer.headers["content-security-policy"]).toMatch(/^default-src 'none'; script-src 'self';/);
    const urls = [...answer.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url]) => url ?? "");
    expect(urls).toHaveLength(3);
    for (const url of urls) {
      expect(url).toMatch(/^\/assets\/[a-z]+-[0-9a-f]{12}\.(js|css|svg)$/);
      const asset = await server.inject(url);
      expect([asset.statusCode, asset.headers["cache-control"]]).toEqual([200, "public, max-age=31536000, immutable"]);
      // Names of XML's vocabularies look like addresses, and are none.
      expect(asset.body.replace(/https?:\/\/www\.w3\.org\/[\w/]*/g, "")).not.toMatch(/https?:\/\/(?!github\.com|a\b)/);
    }
  });

  it.each([
    ["127.0.0.1:8090", true],
    ["localhost:8090", true],
    ["[::1]:8090", true],
    ["10.1.2.3", true],
    ["dash.example", true],
    ["DASH.example:443", true],
    ["evil.example", false],
    ["localhost.evil.example", false],
    [undefined, false],
  ])("knows whether it is meant: %s", (host, isKnown) => {
    expect(isKnownHost(host, ["dash.example"])).toBe(isKnown);
  });

  it("refuses other names with a code, but not the health check", async () => {
    const headers = { host: "evil.example" };
    const refused = await server.inject({ url: "/api/pools", headers });
    expect([refused.statusCode, refused.json().error.code]).toEqual([403, "host_unknown"]);
    expect((await server.inject({ url: "/healthz", headers })).json()).toEqual({ ok: true });
  });

  it("has stable codes for what is not there and for what it cannot read", async () => {
    expect((await server.inject("/nothing")).json().error.code).toBe("not_found");
    expect((await server.inject("/api/pools/other/programs/t/a")).json().error.code).toBe("not_found");
    const film = (body: unknown) =>
      server.inject({
        method: "POST",
        url: "/api/replay/films",
        headers: { "content-type": "application/json" },
        payload: JSON.stringify(body),
      });
    expect((await film({ kind: "workload" })).json().error).toMatchObject({ code: "invalid_request" });
    expect((await film({ kind: "recording", recording: "../../etc/passwd" })).json().error.code).toBe("not_found");
    const form = {
      method: "POST",
      url: "/api/replay/films",
      headers: { "content-type": "text/plain" },
      payload: "{}",
    } as const;
    expect((await server.inject(form)).statusCode).toBe(415);
    const upload = await server.inject({
      method: "POST",
      url: "/api/replay/recordings?name=x",
      headers: { "content-type": "application/x-ndjson" },
      payload: "hello\n",
    });
    expect([upload.statusCode, upload.json().error.code]).toEqual([400, "not_an_input_log"]);
  });

  it("tells a program's story, ended calls included", async () => {
    feed.changes(
      changes(1_000, { programs: [program("a b/c")], calls: [call("1", { program: "a b/c", arrivedAtMs: 900 })] }),
    );
    feed.changes(changes(2_000, { gone: { programs: [], calls: ["t/1"], engines: [] } }));
    const answer = await server.inject(`/api/pools/p/programs/t/${encodeURIComponent("a b/c")}`);
    expect(answer.json()).toMatchObject({ program: { program: "a b/c" }, calls: [{ call: "t/1", endedAtMs: 2_000 }] });
  });
});

describe("the path of a program", () => {
  it.each([".", "..", "~..", "~~.", "...", "~", "a/../b", "%2e%2e"])("leads to it: %s", async (name) => {
    feed.changes(changes(1_000, { programs: [program(name)] }));
    const path = programPath("p", `t/${name}`);
    // A browser leaves no step through folders in an address.
    expect(new URL(path, "http://localhost/").pathname).toBe(path);
    expect((await server.inject(path)).statusCode).toBe(200);
    expect((await server.inject(`/api${path}`)).json()).toMatchObject({ program: { program: name } });
  });
});

/** Events as a browser gets them. */
class Stream {
  readonly response: IncomingMessage;
  text = "";

  constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding("utf8").on("data", (part: string) => {
      this.text += part;
    });
  }

  static async open(port: number): Promise<Stream> {
    const [response] = (await once(
      get({ host: "127.0.0.1", port, path: "/api/pools/p/events", agent: false }),
      "response",
    )) as [IncomingMessage];
    return new Stream(response);
  }

  kinds(): string[] {
    return [...this.text.matchAll(/^data: \{"kind":"(\w+)"/gm)].map(([, kind]) => kind ?? "");
  }
}

describe("a stream of events", () => {
  let port: number;

  beforeEach(async () => {
    await server.listen({ host: "127.0.0.1", port: 0 });
    port = (server.server.address() as AddressInfo).port;
  });

  it("begins with a shot, then has gathered changes", async () => {
    const stream = await Stream.open(port);
    await expect.poll(() => stream.kinds()).toContain("shot");
    for (let i = 0; i < 50; i++) feed.changes(changes(10 + i, { calls: [call(String(i))] }));
    await expect.poll(() => stream.text).toContain('"call":"t/49"');
    expect(stream.kinds().filter((kind) => kind === "changes").length).toBeLessThanOrEqual(2);
    stream.response.destroy();
  });

  it("of a browser that does not read holds one message, and goes on with a shot", async () => {
    const stream = await Stream.open(port);
    await expect.poll(() => stream.kinds()).toContain("shot");
    stream.response.pause();
    // Each message is larger than what the system's buffers take together with some others.
    const large = Array.from({ length: 2_000 }, (_, i) => call(String(i), { thread: "x".repeat(250) }));
    const before = process.memoryUsage().arrayBuffers + process.memoryUsage().external;
    for (let i = 0; i < 30; i++) {
      feed.changes(changes(100 + i, { calls: large }));
      await pause(130);
    }
    // 30 messages of a megabyte each would be there.
    expect(process.memoryUsage().arrayBuffers + process.memoryUsage().external - before).toBeLessThan(15e6);
    expect(pools.browserCount).toBe(1);
    const seen = stream.kinds().length;
    stream.response.resume();
    await expect.poll(() => stream.kinds().slice(seen), { timeout: 5_000 }).toContain("shot");
    stream.response.destroy();
    await expect.poll(() => pools.browserCount).toBe(0);
  }, 20_000);

  it("is refused to one browser too many", async () => {
    const streams = await Promise.all(Array.from({ length: BROWSERS_MAX }, () => Stream.open(port)));
    const last = await Stream.open(port);
    await once(last.response, "end");
    expect(last.text).toContain("event: refused");
    for (const stream of streams) stream.response.destroy();
  });
});
