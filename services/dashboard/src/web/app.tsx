/** The frame of every page: what it is, where one can go, and the keyboard. */
import { useEffect, useRef } from "preact/hooks";
import { poolPath } from "../shared/paths.ts";
import { type Connection, connection, pools } from "./live.ts";
import { PoolPage } from "./pages/pool.tsx";
import { ProgramPage } from "./pages/program.tsx";
import { ReplayPage } from "./pages/replay.tsx";
import { go, route } from "./router.ts";
import { switchTheme, theme } from "./theme.ts";

export function App() {
  const help = useRef<HTMLDialogElement>(null);
  useShortcuts(() => help.current?.showModal());
  const now = route.value;
  const pool = now.page === "replay" ? undefined : (now.pool ?? pools.value?.[0]?.pool);
  useEffect(() => {
    document.title =
      now.page === "replay"
        ? "Replay · Autellix"
        : now.page === "program"
          ? `${now.program} · Autellix`
          : `${pool ?? "Pools"} · Autellix`;
  }, [now, pool]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href="/">
          <Mark />
          Autellix
        </a>
        <nav aria-label="Pages">
          <a href={poolPath(undefined)} aria-current={now.page === "replay" ? undefined : "page"}>
            Live
          </a>
          <a href="/replay" aria-current={now.page === "replay" ? "page" : undefined}>
            Replay
          </a>
        </nav>
        {now.page === "pool" && (pools.value?.length ?? 0) > 1 && (
          <select
            class="pool-select"
            aria-label="Pool"
            value={pool}
            onChange={(event) => go(poolPath(event.currentTarget.value))}
          >
            {pools.value?.map((one) => (
              <option key={one.pool}>{one.pool}</option>
            ))}
          </select>
        )}
        <span class="grow" />
        {now.page === "pool" && <Status state={connection.value} />}
        <button
          type="button"
          class="icon"
          onClick={switchTheme}
          aria-label={theme.value === "dark" ? "Use light colours" : "Use dark colours"}
          title="Light or dark (t)"
        >
          {theme.value === "dark" ? "☀" : "☾"}
        </button>
        <button
          type="button"
          class="icon"
          onClick={() => help.current?.showModal()}
          aria-label="Keyboard shortcuts"
          title="Keyboard shortcuts (?)"
        >
          ?
        </button>
      </header>
      {now.page === "pool" && <PoolPage pool={now.pool} />}
      {now.page === "program" && <ProgramPage key={`${now.pool}/${now.tenant}/${now.program}`} {...now} />}
      {now.page === "replay" && <ReplayPage />}
      <dialog ref={help} aria-labelledby="help-title">
        <h2 id="help-title">Keyboard</h2>
        <dl class="keys">
          {KEYS.map(([key, what]) => (
            <div key={key}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
        <form method="dialog">
          <button type="submit" class="primary">
            Close
          </button>
        </form>
      </dialog>
    </>
  );
}

const KEYS = [
  ["l", "live page"],
  ["r", "replay"],
  ["/", "filter programs"],
  ["t", "light or dark"],
  ["Space", "replay: play, pause"],
  ["← →", "replay: back, forward"],
  ["+ −", "replay: faster, slower"],
  ["Tab, Enter", "reach and use everything else"],
  ["?", "this list"],
] as const;

const STATES: Record<Connection, string> = {
  connecting: "connecting",
  unknown: "there is no such pool",
  live: "live",
  lost: "no connection; trying again",
  away: "no scheduler answers",
  refused: "too many pages are open",
};

function Status({ state }: { state: Connection }) {
  return (
    <span class={`status ${state}`} role="status">
      <i aria-hidden="true" />
      {STATES[state]}
    </span>
  );
}

function Mark() {
  return (
    <svg viewBox="0 0 22 18" width="22" height="18" aria-hidden="true">
      <rect x="0" y="0" width="12" height="4.5" rx="1.5" fill="var(--program-0)" />
      <rect x="14" y="0" width="8" height="4.5" rx="1.5" fill="var(--program-1)" />
      <rect x="0" y="6.5" width="6" height="4.5" rx="1.5" fill="var(--program-1)" />
      <rect x="8" y="6.5" width="14" height="4.5" rx="1.5" fill="var(--program-2)" />
      <rect x="0" y="13" width="17" height="4.5" rx="1.5" fill="var(--program-3)" />
    </svg>
  );
}

/** What uses letters itself; the replay's slider does not, and keeps the focus after a click. */
const WRITTEN_IN = "input:not([type='range']), select, textarea, dialog[open]";

function useShortcuts(onHelp: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const { target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      // A dialog that was just closed keeps the focus until the next frame.
      if (target instanceof HTMLElement && target.closest(WRITTEN_IN)) return;
      if (event.key === "l") go("/");
      else if (event.key === "r") go("/replay");
      else if (event.key === "t") switchTheme();
      else if (event.key === "?") onHelp();
      else if (event.key === "/") document.getElementById("filter")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}
