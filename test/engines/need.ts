/** The equipment as tests use it. */
import type { Component } from "./equipment/index.ts";

/** Whether tests of the component must be skipped: `npm run test:engines` has said what is missing. */
export function isMissing(component: Component<object>): component is { missing: string } {
  return "missing" in component;
}

/** @throws Error when it is missing: such tests are skipped. */
export function need<T extends object>(component: Component<T>): T {
  if (isMissing(component)) throw new Error(component.missing);
  return component;
}
