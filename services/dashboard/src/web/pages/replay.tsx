/** The replay: two runs side by side, at any speed. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { LOOKS } from "../../shared/colours.ts";
import type { Film, FilmAsk, ReplayOptions } from "../../shared/film.ts";
import { formatMs } from "../../shared/format.ts";
import { summarise } from "../../shared/results.ts";
import { Happenings } from "../components/happenings.tsx";
import { Stage } from "../components/stage.tsx";
import { TimelineCanvas } from "../components/timeline.tsx";
import { coloursOf, FilmPlayer } from "../player.ts";
import { usePlayerKeys } from "../player-keys.ts";
import { policyLines } from "../policies.ts";
import { reducedMotion } from "../theme.ts";
import { Legend } from "./pool.tsx";
import { defaultChoice, type ReplayChoice, ReplayForm, type SideChoice } from "./replay-form.tsx";

const SPEEDS = [0.25, 0.5, 1, 2, 5, 10, 30, 100];
/** Ten pictures a second, as the live page. */
const FRAME_MS = 100;

interface Loaded {
  left: FilmPlayer;
  right: FilmPlayer;
}

export function ReplayPage() {
  const [options, setOptions] = useState<ReplayOptions>();
  const [choice, setChoice] = useState<ReplayChoice>();
  const [loaded, setLoaded] = useState<Loaded>();
  const [problem, setProblem] = useState<string>();
  const [isMaking, setMaking] = useState(false);
  const making = useRef<AbortController | undefined>(undefined);
  const make = async (chosen: ReplayChoice) => {
    making.current?.abort();
    const stop = new AbortController();
    making.current = stop;
    setMaking(true);
    setProblem(undefined);
    try {
      const films = await Promise.all(
        [chosen.left, chosen.right].map((side) => readFilm(askOf(chosen, side), stop.signal)),
      );
      const [left, right] = films;
      if (!left || !right) return;
      const colours = coloursOf(films, LOOKS);
      setLoaded({ left: new FilmPlayer(left, colours), right: new FilmPlayer(right, colours) });
    } catch (error) {
      if (!stop.signal.aborted) setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      if (making.current === stop) setMaking(false);
    }
  };
  useEffect(() => {
    const read = async () => {
      const found = (await (await fetch("/api/replay/options")).json()) as ReplayOptions;
      const first = defaultChoice(found);
      setOptions(found);
      setChoice(first);
      await make(first);
    };
    read().catch(() => setProblem("The dashboard does not answer."));
    return () => making.current?.abort();
  }, []);
  return (
    <main class="page" id="main">
      <header class="page-head">
        <h1 tabIndex={-1}>Replay</h1>
        <p class="lead">
          The same programs under two policies. Watch a short program wait behind long ones on one side, and pass them
          on the other.
        </p>
      </header>
      {options && choice && (
        <ReplayForm
          options={options}
          choice={choice}
          isMaking={isMaking}
          onChange={setChoice}
          onMake={() => void make(choice)}
          onUploaded={(recording) => setOptions({ ...options, recordings: [recording, ...options.recordings] })}
          onProblem={setProblem}
        />
      )}
      {problem !== undefined && (
        <p class="alert" role="alert">
          {problem}
        </p>
      )}
      {!loaded && problem === undefined && <p class="empty">Making the replay …</p>}
      {loaded && <Player loaded={loaded} />}
    </main>
  );
}

function askOf(choice: ReplayChoice, side: SideChoice): FilmAsk {
  if (side.kind === "recording") return { kind: "recording", recording: side.name };
  const { traffic, preset, programs, ratePerS, seed, engines } = choice;
  if (traffic.kind === "recording") return { kind: "resimulated", recording: traffic.name, policy: side.name, preset };
  return { kind: "workload", workload: traffic.name, policy: side.name, programs, ratePerS, seed, engines, preset };
}

/** @throws Error with what the service said. */
async function readFilm(ask: FilmAsk, signal: AbortSignal): Promise<Film> {
  const response = await fetch("/api/replay/films", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(ask),
    signal,
  });
  const body = (await response.json()) as Film & { error?: { message: string } };
  if (!response.ok) throw new Error(body.error?.message ?? `the dashboard answered ${response.status}`);
  return body;
}

function Player({ loaded }: { loaded: Loaded }) {
  const lengthMs = Math.max(loaded.left.lengthMs, loaded.right.lengthMs);
  const [atMs, setAtMs] = useState(0);
  const [isPlaying, setPlaying] = useState(!reducedMotion.matches);
  const [speed, setSpeed] = useState(2);
  const at = useRef(0);
  const seek = (ms: number) => {
    at.current = Math.max(0, Math.min(lengthMs, ms));
    setAtMs(at.current);
  };
  useEffect(() => {
    at.current = 0;
    setAtMs(0);
    setPlaying(!reducedMotion.matches);
    // Half a minute for the whole is a good first look.
    setSpeed(SPEEDS.findLast((one) => lengthMs / one >= 20_000) ?? 1);
  }, [loaded]);
  useEffect(() => {
    if (!isPlaying) return;
    let last = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      if (!document.hidden) seek(at.current + (now - last) * speed);
      last = now;
      if (at.current >= lengthMs) setPlaying(false);
    }, FRAME_MS);
    return () => clearInterval(timer);
  }, [isPlaying, speed, loaded]);
  const toggle = () => {
    if (!isPlaying && at.current >= lengthMs) seek(0);
    setPlaying(!isPlaying);
  };
  usePlayerKeys({
    toggle,
    seekBy: (share) => seek(at.current + share * lengthMs),
    faster: (by) => setSpeed(nextSpeed(speed, by)),
  });
  useMemo(() => {
    loaded.left.seek(atMs);
    loaded.right.seek(atMs);
  }, [loaded, atMs]);
  return (
    <>
      <div class="player card">
        <button type="button" class="primary" onClick={toggle} aria-keyshortcuts="Space">
          {isPlaying ? "Pause" : atMs >= lengthMs ? "Again" : "Play"}
        </button>
        <input
          type="range"
          min={0}
          max={Math.ceil(lengthMs)}
          step={stepOf(lengthMs)}
          value={atMs}
          aria-label="Time of the replay"
          aria-valuetext={formatMs(atMs)}
          onInput={(event) => seek(wholeEnd(Number(event.currentTarget.value), lengthMs))}
        />
        <output>
          {formatMs(atMs)} <span>of {formatMs(lengthMs)}</span>
        </output>
        <label>
          Speed{" "}
          <select value={String(speed)} onChange={(event) => setSpeed(Number(event.currentTarget.value))}>
            {SPEEDS.map((one) => (
              <option key={one} value={String(one)}>
                {one}×
              </option>
            ))}
          </select>
        </label>
      </div>
      <div class="columns even">
        <Side player={loaded.left} atMs={atMs} lengthMs={lengthMs} name="left" />
        <Side player={loaded.right} atMs={atMs} lengthMs={lengthMs} name="right" />
      </div>
      <section class="card">
        <Legend />
      </section>
    </>
  );
}

function Side({ player, atMs, lengthMs, name }: { player: FilmPlayer; atMs: number; lengthMs: number; name: string }) {
  const { film, model } = player;
  const summary = summarise(film, film.fromMs + atMs);
  const sinceStart = (ms: number) => formatMs(ms - film.fromMs);
  return (
    <section class="side" aria-labelledby={`${name}-title`}>
      <div class="card">
        <header class="card-head">
          <h2 id={`${name}-title`}>
            <span class="badge">{film.policy}</span> {film.title}
          </h2>
          <p class="about">{policyLines[film.policy] ?? ""}</p>
        </header>
        <dl class="facts small">
          <div class="fact">
            <dt>Finished</dt>
            <dd>
              <b>{summary.ended}</b> <span>of {summary.all} programs</span>
            </dd>
          </div>
          {summary.groups.map((group) => (
            <div class="fact" key={group.name} title={group.about}>
              <dt>{group.name}</dt>
              <dd>
                <b>{group.meanMs === undefined ? "–" : formatMs(group.meanMs)}</b>{" "}
                <span>
                  mean, {group.ended} of {group.all}
                </span>
              </dd>
            </div>
          ))}
          <div class="fact">
            <dt>Preemptions</dt>
            <dd>
              <b>{model.pool.totals.preemptions}</b> <span>{model.pool.totals.demotions} demotions</span>
            </dd>
          </div>
        </dl>
        {film.isCut && <p class="hint">The run is longer than a page can show: only its beginning is here.</p>}
        <Stage model={model} version={atMs} label={`${film.policy} at ${formatMs(atMs)}`} />
      </div>
      <div class="card">
        <header class="card-head">
          <h3>Who ran when</h3>
          <p class="about">A bar that ends in a thick edge was preempted.</p>
        </header>
        <TimelineCanvas
          model={model}
          version={atMs}
          isPrompt
          window={windowOf(film.fromMs, atMs, lengthMs)}
          timeText={sinceStart}
        />
      </div>
      <Happenings model={model} version={atMs} timeText={sinceStart} id={`${name}-happenings`} shownMax={6} />
    </section>
  );
}

/** The whole run when it is short enough to be seen at once, else what was lately. */
function windowOf(fromMs: number, atMs: number, lengthMs: number) {
  const shownMs = Math.min(lengthMs, 120_000);
  const start = Math.max(0, Math.min(atMs - shownMs * 0.8, lengthMs - shownMs));
  return { fromMs: fromMs + start, toMs: fromMs + start + shownMs, nowMs: fromMs + atMs };
}

function stepOf(lengthMs: number): number {
  return Math.max(1, Math.round(lengthMs / 1_000));
}

/** The slider goes in steps, and its last one may stand a little before the end. */
function wholeEnd(ms: number, lengthMs: number): number {
  return ms + stepOf(lengthMs) >= lengthMs ? lengthMs : ms;
}

function nextSpeed(speed: number, by: 1 | -1): number {
  const place = SPEEDS.indexOf(speed) + by;
  return SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, place))] ?? speed;
}
