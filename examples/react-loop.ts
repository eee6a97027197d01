/**
 * An agent that thinks, uses a tool, and thinks again (ReAct). Tools are parsed from the text: a line
 * `Action: calculator: 17 * 23` or `Action: lookup: tea`. A very small model often does not keep to that; the loop is
 * bounded, and says what happened.
 *
 *     node examples/react-loop.ts [http://127.0.0.1:8080]
 */
import { program } from "@autellix/client";
import type OpenAI from "openai";
import { calculate } from "./calculator.ts";
import { BASE_URL, openChat } from "./openai.ts";

const TURNS_MAX = 4;
const QUESTION = "A box of tea holds 24 bags. How many bags are in 17 boxes?";
const INSTRUCTIONS = `Answer the question. You may use one tool per turn by writing one line:
Action: calculator: <arithmetic, such as 3 * (4 + 5)>
Action: lookup: <one word>
You then get a line "Result: ...". When you know the answer, write one line:
Answer: <the answer>`;

const facts: Record<string, string> = {
  tea: "Tea is made by pouring hot water over leaves of Camellia sinensis.",
  box: "A box of tea usually holds 20 to 100 bags.",
};

const tools: Record<string, (input: string) => string> = {
  calculator: (input) => String(calculate(input)),
  lookup: (input) => facts[input.toLowerCase()] ?? `nothing is known about "${input}"`,
};

/** @returns the answer, or undefined when the model gave none within its turns. */
export async function main(baseUrl: string = BASE_URL): Promise<string | undefined> {
  const { ask } = await openChat(baseUrl);
  return await program("react", async (p) => {
    console.log(`program ${p.id}\nquestion: ${QUESTION}`);
    const messages: OpenAI.ChatCompletionMessageParam[] = [
      { role: "system", content: INSTRUCTIONS },
      { role: "user", content: QUESTION },
    ];
    for (let turn = 1; turn <= TURNS_MAX; turn++) {
      const text = await ask(messages);
      console.log(`\nturn ${turn}: ${text.trim()}`);
      const answer = /^\s*Answer:\s*(.+)$/m.exec(text)?.[1];
      if (answer !== undefined) {
        console.log(`\nanswer after ${turn} turns: ${answer}`);
        return answer;
      }
      const result = useTool(text);
      console.log(`  ${result}`);
      messages.push({ role: "assistant", content: text }, { role: "user", content: result });
    }
    console.log(`\nno answer after ${TURNS_MAX} turns: this model does not keep to the format`);
    return undefined;
  });
}

function useTool(text: string): string {
  const [, name = "", input = ""] = /^\s*Action:\s*(\w+)\s*:\s*(.+)$/m.exec(text) ?? [];
  const tool = Object.hasOwn(tools, name) ? tools[name] : undefined;
  if (!tool) return 'Result: no tool was used; write "Action: calculator: ..." or "Answer: ..."';
  try {
    return `Result: ${tool(input.trim())}`;
  } catch (error) {
    // A tool that fails is news for the model, not the end of the program.
    return `Result: ${error instanceof Error ? error.message : String(error)}`;
  }
}

if (import.meta.main) await main(process.argv[2]);
