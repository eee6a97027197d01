/** A program's page: the answer to "where did the time go?". */
import { useEffect, useState } from "preact/hooks";
import { formatAttained, formatMs, levelName } from "../../shared/format.ts";
import { poolPath, programPath } from "../../shared/paths.ts";
import type { PoolSummary, ProgramAnswer } from "../../shared/wire.ts";
import { StoryView } from "../components/story-view.tsx";
import { clock, Fact } from "./pool.tsx";

const AGAIN_MS = 1_000;

export interface ProgramPageProps {
  pool: string;
  tenant: string;
  program: string;
}

export function ProgramPage({ pool, tenant, program }: ProgramPageProps) {
  const [answer, setAnswer] = useState<ProgramAnswer>();
  const [problem, setProblem] = useState<string>();
  useEffect(() => {
    const stop = new AbortController();
    const path = `/api${programPath(pool, `${tenant}/${program}`)}`;
    const read = async () => {
      while (!stop.signal.aborted) {
        if (!document.hidden) await readOnce(pool, path, stop.signal, setAnswer, setProblem);
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    };
    void read();
    return () => stop.abort();
  }, [pool, tenant, program]);
  return (
    <main class="page" id="main">
      <header class="page-head">
        <p class="crumbs">
          <a href={poolPath(pool)}>Pool {pool}</a> / {tenant}
        </p>
        <h1 tabIndex={-1}>
          <i class={`dot large look-${answer?.look ?? 0}`} /> Program <b>{program}</b>
        </h1>
      </header>
      {problem !== undefined && <p class="alert">{problem}</p>}
      {answer && <Story answer={answer} />}
      {!answer && problem === undefined && <p class="empty">Reading …</p>}
    </main>
  );
}

function Story({ answer }: { answer: ProgramAnswer }) {
  const { program, calls, callsSeen, atMs, seenSinceMs } = answer;
  const callsOfAll = program ? program.calls.waiting + program.calls.running + program.calls.ended : 0;
  const isCutOff = program !== undefined && program.startedAtMs < seenSinceMs;
  return (
    <>
      {program ? (
        <dl class="facts">
          <Fact
            name="State"
            value={program.state}
            of={`next call enters ${levelName(program.level)}`}
            about="whether its owner has ended it"
          />
          <Fact
            name="Attained"
            value={formatAttained(program.attained, answer.measures)}
            of="of service"
            about="what the policy ranks it by"
          />
          <Fact
            name="Waited"
            value={formatMs(program.waitingMs)}
            of="all ended calls"
            about="sum over its ended calls"
          />
          <Fact
            name="Calls"
            value={String(program.calls.running)}
            of={`running, ${program.calls.waiting} waiting, ${program.calls.ended} ended`}
            about="its calls now"
          />
        </dl>
      ) : (
        <p class="hint">
          The scheduler does not know this program: it never came, or was forgotten.
          {calls.length > 0 && " Below are its calls as this dashboard saw them."}
        </p>
      )}
      {isCutOff && (
        <p class="hint">It began before this dashboard did ({clock(seenSinceMs)}): earlier calls are not shown.</p>
      )}
      {callsSeen < callsOfAll && (
        <p class="hint">
          {callsSeen} of {callsOfAll} calls seen: what follows is made of these.
        </p>
      )}
      <StoryView calls={calls} nowMs={atMs} timeText={clock} />
    </>
  );
}

async function readOnce(
  pool: string,
  path: string,
  signal: AbortSignal,
  onAnswer: (answer: ProgramAnswer) => void,
  onProblem: (problem: string | undefined) => void,
): Promise<void> {
  try {
    // Asked for a program of no pool, the browser would write a 404 on its console each second.
    const response = (await isKnown(pool, signal)) ? await fetch(path, { signal }) : undefined;
    if (response?.ok) onAnswer((await response.json()) as ProgramAnswer);
    onProblem(
      response?.ok
        ? undefined
        : response === undefined || response.status === 404
          ? `No pool is called ${pool}, yet.`
          : "The dashboard could not answer.",
    );
  } catch {
    if (!signal.aborted) onProblem("The dashboard does not answer. It is asked again.");
  }
}

async function isKnown(pool: string, signal: AbortSignal): Promise<boolean> {
  const response = await fetch("/api/pools", { signal });
  const { pools } = (await response.json()) as { pools: PoolSummary[] };
  return pools.some((one) => one.pool === pool);
}
