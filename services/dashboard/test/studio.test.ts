/** Films are made a few at a time: who waits for a turn gets it, whoever else has left. */
import { afterEach, expect, it } from "vitest";
import { DEMO } from "../src/replay/make-film.ts";
import { Studio } from "../src/replay/studio.ts";

const studio = new Studio([]);
afterEach(() => studio.stop());

const film = (signal = new AbortController().signal) =>
  studio.film(
    {
      kind: "workload",
      workload: DEMO,
      programs: 1,
      ratePerS: 1,
      seed: 1,
      engines: 1,
      preset: "a100-8b",
      policy: "plas",
    },
    signal,
  );

it("a film is made although those that waited before it have left", async () => {
  const made = [film(), film()];
  const left = new AbortController();
  const leaving = [film(left.signal), film(left.signal)].map((promise) =>
    expect(promise).rejects.toMatchObject({ code: "aborted" }),
  );
  const last = film();
  left.abort();
  await Promise.all(leaving);
  expect((await Promise.all([...made, last])).every(({ byteLength }) => byteLength > 0)).toBe(true);
});
