import { describe, expect, test } from "vitest";
import { parseLoadOptions, targetUrl, UsageError } from "../src/options.ts";

describe("the command line of a load", () => {
  test("names sides by letter or by what is written before the URL", () => {
    expect(
      parseLoadOptions(["--url", "http://127.0.0.1:8080", "--url", "new=http://localhost:8081/v1"])?.sides,
    ).toEqual([
      { name: "A", url: "http://127.0.0.1:8080/v1", apiKey: undefined, model: undefined },
      { name: "new", url: "http://localhost:8081/v1", apiKey: undefined, model: undefined },
    ]);
    expect(parseLoadOptions(["--stack", "plas=--policy plas --model tiny"])?.sides).toMatchObject([
      { name: "plas", stackArgs: ["--policy", "plas", "--model", "tiny"] },
    ]);
    expect(parseLoadOptions(["--stack", "--policy fcfs"])?.sides).toMatchObject([
      { name: "stack 1", stackArgs: ["--policy", "fcfs"] },
    ]);
  });

  test("loads this machine only, unless it is told otherwise", () => {
    for (const url of ["http://example.com", "http://10.0.0.1:80/v1", "http://127.0.0.1.example.com"]) {
      expect(() => targetUrl(url, false)).toThrow("--allow-remote");
      expect(() => targetUrl(url, true)).not.toThrow();
    }
    for (const url of ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://127.1.2.3"])
      expect(() => targetUrl(url, false)).not.toThrow();
  });

  test.each([
    [[]],
    [["--url", "ftp://127.0.0.1"]],
    [["--url", "nonsense"]],
    [["--url", "http://127.0.0.1", "--rate", "0"]],
    [["--url", "http://127.0.0.1", "--duration", "1e9"]],
    [["--url", "http://127.0.0.1", "--workload", "other"]],
    [["--url", "http://127.0.0.1", "--what"]],
  ])("refuses %j", (args) => {
    expect(() => parseLoadOptions(args)).toThrow(UsageError);
  });

  test("asks for nothing when help is wanted", () => {
    expect(parseLoadOptions(["--help"])).toBeUndefined();
  });
});
