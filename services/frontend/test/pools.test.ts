import { expect, test } from "vitest";
import { defaultLimits } from "../src/limits.ts";
import { Pools } from "../src/pools.ts";

function poolsOf(...names: string[]): Pools {
  const pools = new Pools(defaultLimits);
  pools.modelSeen("m", names);
  return pools;
}

test("programs spread over the pools of a model about evenly", () => {
  const pools = poolsOf("p1", "p2", "p3");
  const counts = new Map<unknown, number>();
  for (let i = 0; i < 3_000; i++) {
    const pool = pools.choose("m", "default", `program-${i}`, "c");
    counts.set(pool, (counts.get(pool) ?? 0) + 1);
  }
  expect([...counts.keys()].sort()).toEqual(["p1", "p2", "p3"]);
  for (const count of counts.values()) expect(count).toBeGreaterThan(800);
});

test("two frontends choose the same pool, in whatever order they list them", () => {
  const [one, other] = [poolsOf("p1", "p2", "p3"), poolsOf("p3", "p1", "p2")];
  for (let i = 0; i < 100; i++) {
    expect(one.choose("m", "t", `x${i}`, "c")).toBe(other.choose("m", "t", `x${i}`, "c"));
  }
});

test("a program stays where it is when a pool joins, and moves when its pool goes", () => {
  const pools = poolsOf("p1", "p2");
  const before = Array.from({ length: 50 }, (_, i) => pools.choose("m", "t", `x${i}`, "c"));
  pools.modelSeen("m", ["p1", "p2", "p3"]);
  expect(Array.from({ length: 50 }, (_, i) => pools.choose("m", "t", `x${i}`, "c"))).toEqual(before);
  pools.modelSeen("m", ["p3"]);
  expect(pools.choose("m", "t", "x0", "c")).toBe("p3");
});

test("only as many programs are remembered as the limit says", () => {
  const pools = new Pools({ ...defaultLimits, programsMax: 1 });
  pools.modelSeen("m", ["p1"]);
  pools.choose("m", "t", "a", "c");
  pools.choose("m", "t", "b", "c");
  pools.modelSeen("m", ["p1", "p2"]);
  expect(pools.choose("m", "t", "b", "c")).toBe("p1");
});

test("a model without pools does not exist, once the list has been read", () => {
  const pools = new Pools(defaultLimits);
  expect(pools.choose("m", "t", undefined, "c")).toMatchObject({ code: "queue_unavailable" });
  pools.modelsRead();
  expect(pools.choose("m", "t", undefined, "c")).toMatchObject({ code: "model_not_found" });
  pools.modelSeen("m", ["p1"]);
  expect(pools.models()).toEqual(["m"]);
  pools.modelSeen("m", undefined);
  expect(pools.models()).toEqual([]);
});
