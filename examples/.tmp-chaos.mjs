import { execSync } from "node:child_process";
import OpenAI from "openai";

const what = process.argv[2],
  N = +(process.argv[3] || 12),
  maxTok = +(process.argv[4] || 40);
const ports = [8080, 8081];
const clients = ports.map(
  (p) => new OpenAI({ baseURL: `http://127.0.0.1:${p}/v1`, apiKey: "x", maxRetries: 0, timeout: 120000 }),
);
const m = (await clients[0].models.list()).data[0].id;
const ps = () =>
  execSync("ps -eo pid,args")
    .toString()
    .split("\n")
    .filter((l) => /main.ts|nats-server/.test(l) && !/sh -c|cli\/src|scripts/.test(l));
const pid = (re) => {
  const l = ps().find((l) => re.test(l));
  return l ? +l.trim().split(" ")[0] : undefined;
};
async function one(i, c) {
  const t0 = performance.now();
  let text = "",
    chunks = 0,
    err,
    first,
    gapMax = 0,
    last = t0,
    fin;
  try {
    const s = await c.chat.completions.create({
      model: m,
      messages: [{ role: "user", content: `Tell me about the number ${i} and the city of Berlin.` }],
      temperature: 0,
      max_tokens: maxTok,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const k of s) {
      const now = performance.now();
      gapMax = Math.max(gapMax, now - last);
      last = now;
      const d = k.choices[0]?.delta?.content;
      if (d) {
        first ??= now - t0;
        text += d;
        chunks++;
      }
      if (k.choices[0]?.finish_reason) fin = k.choices[0].finish_reason;
      if (k.autellix) fin += " att=" + k.autellix.attempts + " " + k.autellix.engine.slice(-1);
    }
  } catch (e) {
    err = String(e);
  }
  return { i, text, chunks, err, ms: performance.now() - t0, gapMax, fin };
}
async function all() {
  return Promise.all(Array.from({ length: N }, (_, i) => one(i, clients[i % 2])));
}
const base = process.argv[5] === "nobase" ? [] : await all();
console.log(
  "baseline done",
  base.map((b) => Math.round(b.ms)).join(" "),
  base.filter((b) => b.err).map((b) => b.err),
);
const run = all();
await new Promise((r) => setTimeout(r, 2500));
const target = {
  scheduler: /services\/scheduler/,
  agent: /worker-agent/,
  nats: /nats-server/,
  frontend: /services\/frontend/,
}[what];
if (target) {
  const p = pid(target);
  console.log("kill -9", p, what);
  process.kill(p, "SIGKILL");
}
const got = await run;
let same = 0;
for (const g of got) {
  const b = base[g.i];
  if (b && b.text === g.text) same++;
  else if (b) console.log("DIFF", g.i, "\n  base:", b.text.slice(0, 300), "\n  got :", g.text.slice(0, 300), g.err);
}
console.log(
  "same",
  same,
  "of",
  N,
  "errors",
  got.filter((g) => g.err).map((g) => g.err),
  "fin",
  got.map((g) => g.fin).join("; "),
);
console.log(
  "ms",
  got.map((b) => Math.round(b.ms)).join(" "),
  "maxgap",
  Math.round(Math.max(...got.map((g) => g.gapMax))),
);
