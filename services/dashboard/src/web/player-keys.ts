/** The keys of the replay. */
import { useEffect, useRef } from "preact/hooks";

const STEP_SHARE = 0.02;

/**
 * Whether what has the focus uses the key itself. A dialog that was just closed keeps the focus until the next frame;
 * a button and the slider keep it after a click.
 */
function usesKey(focused: HTMLElement, key: string): boolean {
  if (focused.closest("dialog:not([open])")) return false;
  if (focused.closest("input[type='range']")) return key.startsWith("Arrow");
  if (focused.closest("input, select, textarea, dialog")) return true;
  return (key === " " || key === "Enter") && focused.closest("button, a, summary") !== null;
}

export interface PlayerKeys {
  toggle(): void;
  seekBy(share: number): void;
  faster(by: 1 | -1): void;
}

export function usePlayerKeys(keys: PlayerKeys): void {
  const now = useRef(keys);
  now.current = keys;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const { target } = event;
      if (target instanceof HTMLElement && usesKey(target, event.key)) return;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === " ") now.current.toggle();
      else if (event.key === "ArrowRight") now.current.seekBy(STEP_SHARE);
      else if (event.key === "ArrowLeft") now.current.seekBy(-STEP_SHARE);
      else if (event.key === "+") now.current.faster(1);
      else if (event.key === "-") now.current.faster(-1);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}
