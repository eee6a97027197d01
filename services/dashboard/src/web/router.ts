/** Which page the address means. */
import { signal } from "@preact/signals";
import { nameOfSegment } from "../shared/paths.ts";

export type Route =
  | { page: "pool"; pool: string | undefined }
  | { page: "program"; pool: string; tenant: string; program: string }
  | { page: "replay" };

export const route = signal<Route>(parseRoute(location.pathname));

export function parseRoute(path: string): Route {
  const parts = path.split("/").filter((part) => part !== "");
  const [first, pool, programs, tenant, program] = parts.map(decode);
  if (first === "replay") return { page: "replay" };
  if (first !== "pools") return { page: "pool", pool: undefined };
  if (pool !== undefined && programs === "programs" && tenant !== undefined && program !== undefined)
    return { page: "program", pool, tenant, program };
  return { page: "pool", pool };
}

export function go(path: string): void {
  history.pushState(null, "", path);
  route.value = parseRoute(path);
  scrollTo(0, 0);
  // A reader of the screen hears that the page is another one.
  document.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
}

/** Links inside the application change the page without loading it again. */
export function listenForLinks(): void {
  addEventListener("popstate", () => {
    route.value = parseRoute(location.pathname);
  });
  document.addEventListener("click", (event) => {
    if (!isPlainClick(event)) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.origin !== location.origin || link.target !== "" || link.hash !== "") return;
    event.preventDefault();
    go(link.pathname);
  });
}

/** A click that opens neither a tab nor a window, and that nobody has dealt with. */
export function isPlainClick(event: MouseEvent): boolean {
  return !event.defaultPrevented && event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
}

function decode(part: string): string {
  try {
    return nameOfSegment(decodeURIComponent(part));
  } catch {
    return part; // a stray % that somebody typed
  }
}
