/**
 * Arithmetic with + - * / and parentheses.
 */

const TEXT_LENGTH_MAX = 200;

/** @throws Error when `text` is no arithmetic. */
export function calculate(text: string): number {
  if (text.length > TEXT_LENGTH_MAX) throw new Error("too long to calculate");
  const tokens = text.match(/\d+(?:\.\d+)?|[-+*/()]|\S/g) ?? [];
  let at = 0;

  const sum = (): number => {
    let value = product();
    while (tokens[at] === "+" || tokens[at] === "-")
      value = tokens[at++] === "+" ? value + product() : value - product();
    return value;
  };
  const product = (): number => {
    let value = factor();
    while (tokens[at] === "*" || tokens[at] === "/") value = tokens[at++] === "*" ? value * factor() : value / factor();
    return value;
  };
  const factor = (): number => {
    const token = tokens[at++];
    if (token === "-") return -factor();
    if (token === "(") {
      const value = sum();
      if (tokens[at++] !== ")") throw new Error("a parenthesis is not closed");
      return value;
    }
    const value = Number(token);
    if (token === undefined || Number.isNaN(value)) throw new Error(`cannot calculate "${text}"`);
    return value;
  };

  const value = sum();
  if (at < tokens.length) throw new Error(`cannot calculate "${text}"`);
  return value;
}
