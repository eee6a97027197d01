/**
 * A program that forks into threads and joins them again. Autellix sees the graph of its calls: each call names its
 * thread and the calls that it follows.
 *
 *     node examples/threads.ts [http://127.0.0.1:8080]
 */
import { program } from "@autellix/client";
import { BASE_URL, openChat } from "./openai.ts";

const ASPECTS = ["taste", "history", "preparation"];

export async function main(baseUrl: string = BASE_URL): Promise<string> {
  const { ask } = await openChat(baseUrl);
  const startedAtMs = performance.now();
  const elapsed = () => `${((performance.now() - startedAtMs) / 1000).toFixed(1)} s`;
  return await program("threads", async (p) => {
    console.log(`program ${p.id}`);
    const question = { role: "user" as const, content: "In one sentence: what is tea?" };
    const opening = await ask([question]);
    console.log(`[${elapsed()}] fork after: ${oneLine(opening)}`);

    const parts = await Promise.all(
      ASPECTS.map((aspect) =>
        p.thread(aspect, async () => {
          const draft = await ask(
            [{ role: "user", content: `${opening}\nDescribe its ${aspect} in one sentence.` }],
            32,
          );
          const better = await ask([{ role: "user", content: `Shorten: ${draft}` }], 24);
          console.log(`[${elapsed()}] thread ${aspect}: ${oneLine(better)}`);
          return better;
        }),
      ),
    );

    const summary = await ask([{ role: "user", content: `Summarise in one sentence:\n${parts.join("\n")}` }]);
    console.log(`[${elapsed()}] join: ${oneLine(summary)}`);
    await printProgram(baseUrl, p.id);
    return summary;
  });
}

interface ProgramView {
  service_ms: number;
  waiting_ms: number;
  calls: { waiting: number; running: number; ended: number };
}

const READ_TRIES_MAX = 50;
const READ_PAUSE_MS = 50;

/** The scheduler hears of an end a moment after the client has it: read until no call is open. */
async function printProgram(baseUrl: string, id: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    const response = await fetch(`${baseUrl}/v1/programs/${encodeURIComponent(id)}`);
    if (!response.ok) throw new Error(`GET /v1/programs/${id}: HTTP ${response.status}`);
    const view = (await response.json()) as ProgramView;
    if (view.calls.waiting + view.calls.running === 0) {
      console.log(
        `${view.calls.ended} calls ended, ${Math.round(view.service_ms)} ms of service, ${Math.round(view.waiting_ms)} ms of waiting`,
      );
      return;
    }
    if (tries === READ_TRIES_MAX) throw new Error(`program ${id} still has open calls`);
    await new Promise((resolve) => setTimeout(resolve, READ_PAUSE_MS));
  }
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim().slice(0, 100);
}

if (import.meta.main) await main(process.argv[2]);
