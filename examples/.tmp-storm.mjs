// continuous calls while processes are killed at random; compare with baseline

import { execSync } from "node:child_process";
import OpenAI from "openai";

const secs = +process.argv[2] || 40,
  every = +process.argv[3] || 2500,
  seed0 = +process.argv[4] || 1;
const kinds = (process.argv[5] || "scheduler,agent,nats").split(",");
let seed = seed0;
const rnd = () => {
  seed = (seed * 1103515245 + 12345) & 0x7fffffff;
  return seed / 0x7fffffff;
};
const clients = [8080, 8081].map(
  (p) => new OpenAI({ baseURL: `http://127.0.0.1:${p}/v1`, apiKey: "x", maxRetries: 0, timeout: 180000 }),
);
const m = (await clients[0].models.list()).data[0].id;
const ps = () => execSync("ps -eo pid,ppid,args").toString().split("\n");
const root = +execSync(
  "ps -eo pid,args | grep 'cli/src/main.ts start --data-dir /tmp/e2e/data' | grep -v grep | awk '{print $1}' | tail -1",
).toString();
const kids = () => {
  const all = ps()
    .map((l) => l.trim().split(/\s+/))
    .map(([p, pp, ...a]) => ({ p: +p, pp: +pp, a: a.join(" ") }));
  const set = new Set([root]);
  let ch = true;
  while (ch) {
    ch = false;
    for (const x of all)
      if (set.has(x.pp) && !set.has(x.p)) {
        set.add(x.p);
        ch = true;
      }
  }
  return all.filter((x) => set.has(x.p) && x.p !== root);
};
const re = {
  scheduler: /services\/scheduler/,
  agent: /worker-agent/,
  nats: /nats-server --config|nats-server -c/,
  frontend: /services\/frontend/,
};
async function one(i, c) {
  let text = "",
    err,
    fin;
  const t = performance.now();
  try {
    const s = await c.chat.completions.create({
      model: m,
      messages: [{ role: "user", content: `Tell me about the number ${i} and the city of Berlin.` }],
      temperature: 0,
      max_tokens: 30,
      stream: true,
    });
    for await (const k of s) {
      text += k.choices[0]?.delta?.content ?? "";
      if (k.choices[0]?.finish_reason) fin = k.choices[0].finish_reason;
      if (k.autellix) fin += k.autellix.attempts;
    }
  } catch (e) {
    err = String(e) + " " + (e.code ?? "");
  }
  return { i, text, err, fin, ms: performance.now() - t };
}
const base = await Promise.all(Array.from({ length: 10 }, (_, i) => one(i, clients[i % 2])));
console.log("base", base.map((b) => b.fin).join(" "));
const until = performance.now() + secs * 1000;
const stop = false;
const res = [];
const workers = Array.from({ length: 10 }, async (_, w) => {
  while (performance.now() < until) res.push(await one(w, clients[w % 2]));
});
const killer = (async () => {
  while (performance.now() < until - 8000) {
    await new Promise((r) => setTimeout(r, every * (0.5 + rnd())));
    const k = kinds[Math.floor(rnd() * kinds.length)];
    const c = kids().filter((x) => re[k].test(x.a) && !/tie.sh/.test(x.a));
    const x = c[Math.floor(rnd() * c.length)];
    if (x) {
      console.log("kill", k, x.p);
      try {
        process.kill(x.p, "SIGKILL");
      } catch {}
    }
  }
})();
await Promise.all([...workers, killer]);
let same = 0,
  diff = 0;
for (const r of res) {
  if (r.err) continue;
  if (r.text === base[r.i].text) same++;
  else {
    diff++;
    console.log("DIFF", r.i, r.fin, "\n ", JSON.stringify(base[r.i].text), "\n ", JSON.stringify(r.text));
  }
}
console.log({
  calls: res.length,
  same,
  diff,
  errors: res.filter((r) => r.err).map((r) => r.i + " " + r.err + " " + Math.round(r.ms)),
  fin: res.reduce((a, r) => ((a[r.fin] = (a[r.fin] || 0) + 1), a), {}),
  maxMs: Math.round(Math.max(...res.map((r) => r.ms))),
});
const { openBus, readOutcome, decode } = await import("../libs/protocol/src/index.ts");
const bus = await openBus({url:"nats://127.0.0.1:4222",name:"t"});
for (const r of res.filter(r=>r.err).slice(0,6)) { const o=await readOutcome(bus,{pool:m,tenant:"default",callId:r.id.slice(9)},"leader"); const b=o.record&&decode(o.record.body); console.log(r.id,"\n streamed:",JSON.stringify(r.text),"\n stored:  ",JSON.stringify(b?.response?.choices[0].message.content), b?.response?.usage, JSON.stringify(b?.response?.autellix), JSON.stringify(o.record.head));}
await bus.nc.close();
