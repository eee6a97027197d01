import { PARENT_CALLS_MAX } from "@autellix/protocol";
import OpenAI from "openai";
import { afterEach, describe, expect, test } from "vitest";
import { autellixFetch, program } from "../src/index.ts";
import { type ApiServer, type ApiServerOptions, startApiServer } from "./support/api-server.ts";

const servers: ApiServer[] = [];

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function serve(
  options?: ApiServerOptions,
): Promise<{ server: ApiServer; ask: (text: string) => Promise<string> }> {
  const server = await startApiServer(options);
  servers.push(server);
  const openai = new OpenAI({ baseURL: server.url, apiKey: "key", maxRetries: 0, fetch: autellixFetch() });
  const ask = async (content: string) => {
    const completion = await openai.chat.completions.create({ model: "m", messages: [{ role: "user", content }] });
    return completion.choices[0]?.message.content ?? "";
  };
  return { server, ask };
}

/** What the server saw, by the text of each call's last message. */
function byText(server: ApiServer) {
  const seen = new Map(server.calls.map((call) => [call.body.messages.at(-1)?.content ?? "", call]));
  return (text: string) => {
    const call = seen.get(text);
    if (!call) throw new Error(`the server has not seen "${text}"`);
    return call;
  };
}

describe("a program", () => {
  test("is opened by its first call, annotates each call and ends by itself", async () => {
    const { server, ask } = await serve();
    const answers = await program("chat", async (p) => {
      expect(p.id).toMatch(/^chat-[A-Za-z0-9_-]{12}$/);
      expect(server.opened).toEqual([]);
      return [await ask("one"), await ask("two"), p.id];
    });
    expect(answers.slice(0, 2)).toEqual(["answer to one", "answer to two"]);
    const id = answers[2];
    expect(server.opened).toEqual([id]);
    expect(server.ended).toEqual([{ program: id, cancel: false }]);
    expect(server.calls.map((call) => [call.program, call.thread, call.parents])).toEqual([
      [id, "main", []],
      [id, "main", ["call-1"]],
    ]);
    expect(server.calls[0]?.authorization).toBe("Bearer key");
  });

  test("ends after an error, cancels what is still under way, and throws the error on", async () => {
    const { server, ask } = await serve();
    const broken = program("broken", async () => {
      await ask("one");
      throw new Error("the tool broke");
    });
    await expect(broken).rejects.toThrow("the tool broke");
    expect(server.ended).toEqual([{ program: server.opened[0], cancel: true }]);
  });

  test("that a server refuses to open gives its calls that answer, once, and not a broken connection", async () => {
    const refuseProgram = { status: 401, error: { code: "invalid_api_key", message: "no such key" } };
    const { server } = await serve({ refuseProgram });
    const openai = new OpenAI({ baseURL: server.url, apiKey: "wrong", fetch: autellixFetch() });
    const refused = program("k", () => openai.chat.completions.create({ model: "m", messages: [] }));
    await expect(refused).rejects.toMatchObject({ status: 401, code: "invalid_api_key" });
    expect(server.opened).toHaveLength(1);
    expect(server.calls).toHaveLength(0);
  });

  test("that takes long to open does not keep a call from being given up", async () => {
    const { server } = await serve();
    const opened = Promise.withResolvers<void>();
    const slow: typeof fetch = async (input, init) => {
      if (String(input).endsWith("/programs")) await opened.promise;
      return fetch(input, init);
    };
    const openai = new OpenAI({
      baseURL: server.url,
      apiKey: "key",
      maxRetries: 0,
      fetch: autellixFetch({ fetch: slow }),
    });
    await program("k", async () => {
      const leave = new AbortController();
      const given = openai.chat.completions.create({ model: "m", messages: [] }, { signal: leave.signal });
      const messages = [{ role: "user" as const, content: "stays" }];
      const stays = openai.chat.completions.create({ model: "m", messages });
      leave.abort();
      await expect(given).rejects.toThrow(OpenAI.APIUserAbortError);
      opened.resolve();
      await stays;
    });
    expect(server.opened).toHaveLength(1);
    expect(server.calls).toHaveLength(1);
  });

  test("takes no calls after its end", async () => {
    const { server, ask } = await serve();
    await program("early", async (p) => {
      await ask("one");
      await p.end();
      await p.end();
      await expect(ask("two")).rejects.toMatchObject({ status: 409, code: "program_ended" });
    });
    expect(server.ended).toHaveLength(1);
    expect(server.calls).toHaveLength(1);
  });

  test("opens before its function starts when it is told where", async () => {
    const { server } = await serve();
    await program("eager", async (p) => expect(server.opened).toEqual([p.id]), {
      baseUrl: `${server.url}/`,
      id: "mine",
    });
    expect(server.ended).toEqual([{ program: "mine", cancel: false }]);
  });

  test("runs on a server that has no programs", async () => {
    const { server, ask } = await serve({ programs: false });
    await expect(program("plain", () => ask("one"))).resolves.toBe("answer to one");
    expect(server.calls[0]?.program).toMatch(/^plain-/);
  });

  test("keeps its result when its end cannot be delivered, and says so", async () => {
    const { server, ask } = await serve();
    const errors: unknown[] = [];
    const result = await program(
      "lost",
      async () => {
        const answer = await ask("one");
        await server.close();
        servers.length = 0;
        return answer;
      },
      { onEndError: (error) => errors.push(error) },
    );
    expect(result).toBe("answer to one");
    expect(errors).toEqual([expect.objectContaining({ code: "queue_unavailable" })]);
  });

  test("has an id of visible ASCII whatever its name is", async () => {
    await program("Zoë's\nprogram, Ω", async (p) => expect(p.id).toMatch(/^[\x21-\x7e]+$/));
    for (const id of ["two words", ".", ".."])
      await expect(program("x", async () => {}, { id })).rejects.toMatchObject({ code: "invalid_request" });
  });
});

describe("threads", () => {
  test("fork from the last call and join into the next one", async () => {
    const { server, ask } = await serve();
    await program("map-reduce", async (p) => {
      await ask("plan");
      await p.parallel([() => ask("left"), () => ask("right")]);
      await ask("merge");
    });
    const call = byText(server);
    expect(call("plan").parents).toEqual([]);
    for (const branch of ["left", "right"]) expect(call(branch).parents).toEqual([call("plan").id]);
    expect(new Set([call("left").thread, call("right").thread])).toEqual(new Set(["branch", "branch-2"]));
    expect(call("merge").thread).toBe("main");
    expect(new Set(call("merge").parents)).toEqual(new Set([call("left").id, call("right").id]));
  });

  test("join from more branches than a call may name, and go on after them", async () => {
    const { server, ask } = await serve();
    const branches = 2 * PARENT_CALLS_MAX + 1;
    await program("wide", async (p) => {
      await ask("plan");
      await p.parallel(Array.from({ length: branches }, (_, i) => () => ask(`branch ${i}`)));
      await ask("merge");
      await ask("end");
      await Promise.all(Array.from({ length: branches }, (_, i) => ask(`beside ${i}`)));
      await ask("last");
    });
    const call = byText(server);
    for (const [text, before] of [
      ["merge", "branch"],
      ["last", "beside"],
    ] as const) {
      const ids = Array.from({ length: branches }, (_, i) => call(`${before} ${i}`).id);
      expect(call(text).parents).toHaveLength(PARENT_CALLS_MAX);
      expect(ids).toEqual(expect.arrayContaining(call(text).parents));
    }
    expect(call("end").parents).toEqual([call("merge").id]);
  });

  test("have names of their own, also where a name looks like another's number", async () => {
    const { server, ask } = await serve();
    await program("names", (p) =>
      Promise.all(["a", "a", "a-2", "a"].map((name, i) => p.thread(name, () => ask(`${i}`)))),
    );
    expect(new Set(server.calls.map(({ thread }) => thread)).size).toBe(4);
  });

  test("nest, and a branch without a call adds no parent", async () => {
    const { server, ask } = await serve();
    await program("tree", async (p) => {
      await ask("root");
      await p.thread("outer", async () => {
        await ask("a");
        await Promise.all([p.thread("inner", () => ask("b")), p.thread("inner", async () => {})]);
        await ask("c");
      });
      await ask("end");
    });
    const call = byText(server);
    expect(call("a").parents).toEqual([call("root").id]);
    expect(call("b").parents).toEqual([call("a").id]);
    expect(call("c").parents).toEqual([call("b").id]);
    expect(call("c").thread).toBe("outer");
    expect(call("end").parents).toEqual([call("c").id]);
  });

  test("calls made side by side in one thread are siblings, and both are parents of the next", async () => {
    const { server, ask } = await serve();
    await program("siblings", async () => {
      await ask("root");
      await Promise.all([ask("x"), ask("y")]);
      await ask("end");
    });
    const call = byText(server);
    expect(call("x").parents).toEqual([call("root").id]);
    expect(call("y").parents).toEqual([call("root").id]);
    expect(new Set(call("end").parents)).toEqual(new Set([call("x").id, call("y").id]));
  });

  test("a refused call is no parent", async () => {
    let refuse = true;
    const { server, ask } = await serve({ refuse: () => (refuse ? { status: 429 } : undefined) });
    await program("retry", async () => {
      await expect(ask("one")).rejects.toMatchObject({ status: 429 });
      refuse = false;
      await ask("two");
    });
    expect(byText(server)("two").parents).toEqual([]);
  });

  test("programs that run side by side do not mix", async () => {
    const { server, ask } = await serve();
    await Promise.all(
      ["p", "q"].map((name) =>
        program(name, async () => {
          await ask(`${name} first`);
          await ask(`${name} second`);
        }),
      ),
    );
    const call = byText(server);
    for (const name of ["p", "q"]) {
      expect(call(`${name} first`).program).toMatch(new RegExp(`^${name}-`));
      expect(call(`${name} second`).parents).toEqual([call(`${name} first`).id]);
    }
  });
});

describe("autellixFetch outside of a program", () => {
  test("passes calls on unchanged, streamed ones too", async () => {
    const { server, ask } = await serve();
    await expect(ask("hello")).resolves.toBe("answer to hello");
    expect(server.calls[0]).toMatchObject({ program: undefined, thread: undefined, parents: [] });
    expect(server.opened).toEqual([]);
  });

  test("streams inside a program arrive whole", async () => {
    const { server } = await serve();
    const openai = new OpenAI({ baseURL: server.url, apiKey: "key", fetch: autellixFetch() });
    let text = "";
    await program("stream", async () => {
      const stream = await openai.chat.completions.create({
        model: "m",
        stream: true,
        messages: [{ role: "user", content: "some words" }],
      });
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    });
    expect(text).toBe("answer to some words");
  });
});
