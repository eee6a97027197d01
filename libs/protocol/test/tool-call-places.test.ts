import { describe, expect, it } from "vitest";
import { ToolCallPlaces } from "../src/tool-call-places.ts";

describe("where a delta's tool call belongs", () => {
  it("is the index that the server gives, whatever ids it makes up", () => {
    const places = new ToolCallPlaces();
    expect(places.of(1, "a", "one")).toBe(1);
    expect(places.of(0, "b", "two")).toBe(0);
    // A new id for each delta, as some versions of vLLM have it.
    expect(places.of(1, "c", undefined)).toBe(1);
    expect(places.of(0, undefined, undefined)).toBe(0);
    expect(places.of(1, "a", "one")).toBe(1);
  });

  it("is another one for another call, where the server gives no index of its own", () => {
    const places = new ToolCallPlaces();
    expect(places.of(0, "a", "one")).toBe(0);
    expect(places.of(0, undefined, undefined)).toBe(0);
    expect(places.of(0, "b", "two")).toBe(1);
    expect(places.of(0, undefined, "")).toBe(1);
    expect(places.of(0, "c", "two")).toBe(2);
    // Taken by another: beside them.
    expect(places.of(1, "d", "three")).toBe(3);
    expect(places.of(1, undefined, undefined)).toBe(3);
  });
});
