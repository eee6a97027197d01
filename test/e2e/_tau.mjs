import { startTestStack } from "../support/stack.ts";
const [out, ...more] = process.argv.slice(2);
const env = Object.fromEntries(more.map((m) => m.split("=")));
const stack = await startTestStack({ engines: 1, args: ["--engine", "simulated", "--preset", env.PRESET ?? "smollm2-cpu", "--policy", env.POLICY ?? "plas", "--input-log", out], env: { AUTELLIX_BATCH_CALLS_MAX: "4", ...env } });
const url = stack.urls[0];
let state = 7; const rnd = () => { state = (state * 1103515245 + 12345) % 2147483648; return state / 2147483648; };
const plan = [];
const S = Number(env.S ?? 20_000), T0 = Number(env.T0 ?? 3), T1 = Number(env.T1 ?? 6);
for (let p = 0; p < 6; p++) for (let c = 0; c < 24; c++) plan.push({ at: p * 90 + c * (S / 24) + rnd() * 200, program: `heavy ${p}`, tokens: T0 + Math.floor(rnd() * T1) });
for (let p = 0; p < 32; p++) { const start = rnd() * (S - 2500); for (let c = 0; c < 3; c++) plan.push({ at: start + c * 800 + rnd() * 100, program: `light ${p}`, tokens: T0 + Math.floor(rnd() * T1) }); }
plan.sort((a, b) => a.at - b.at);
const one = async ({ at, program, tokens }) => { await new Promise((r) => setTimeout(r, at)); const r = await fetch(url + "/v1/chat/completions", { method: "POST", headers: { "content-type": "application/json", "Autellix-Program-Id": program }, body: JSON.stringify({ model: "tiny", messages: [{ role: "user", content: `hello` }], max_tokens: tokens }) }); if (r.status !== 200) console.log(r.status, await r.text()); return (await r.json()).usage; };
const t = Date.now();
const usages = await Promise.all(plan.map(one));
console.log(plan.length, "calls", Date.now() - t, "ms", usages.filter((u, i) => u.completion_tokens !== plan[i].tokens).length, "shorter", usages[0]);
await stack.stop();
