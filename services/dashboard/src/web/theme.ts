/** Light or dark: as the system says, until the person chooses. */
import { signal } from "@preact/signals";

export type Theme = "light" | "dark";

const KEY = "autellix-theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const chosen = signal<Theme | undefined>(stored());
export const theme = signal<Theme>(chosen.peek() ?? fromSystem());
/** Whether things may move. */
export const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

apply();
system.addEventListener("change", apply);

export function switchTheme(): void {
  chosen.value = theme.peek() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, chosen.value);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  apply();
}

/** A colour of the style sheet, for canvases. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function apply(): void {
  theme.value = chosen.peek() ?? fromSystem();
  document.documentElement.dataset.theme = theme.peek();
}

function fromSystem(): Theme {
  return system.matches ? "dark" : "light";
}

function stored(): Theme | undefined {
  try {
    const text = localStorage.getItem(KEY);
    return text === "light" || text === "dark" ? text : undefined;
  } catch {
    return undefined;
  }
}
