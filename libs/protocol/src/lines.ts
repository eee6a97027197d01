/** Lines of a text that comes in pieces, ended by \n or \r\n. Node's readline ends them at U+2028 and U+2029, too, which JSON holds as they are. */

export class LineSplitter {
  private readonly pieces: string[] = [];

  /** @returns the lines that have ended with this piece. */
  push(piece: string): string[] {
    const lines = piece.split("\n");
    const [first = ""] = lines;
    this.pieces.push(first);
    if (lines.length === 1) return [];
    lines[0] = this.pieces.join("");
    this.pieces.length = 0;
    this.pieces.push(lines.pop() ?? "");
    return lines.map(withoutReturn);
  }

  /** @returns what came after the last end of a line, if anything did. */
  end(): string[] {
    const rest = this.pieces.join("");
    this.pieces.length = 0;
    return rest === "" ? [] : [withoutReturn(rest)];
  }
}

export async function* linesOf(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  const splitter = new LineSplitter();
  for await (const piece of pieces) yield* splitter.push(piece);
  yield* splitter.end();
}

function withoutReturn(line: string): string {
  return line.endsWith("\r") ? line.slice(0, -1) : line;
}
