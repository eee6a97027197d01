/** Files from the network and out of archives, checked while they are written. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import yauzl from "yauzl";

/** Time until a server must have answered with headers. Short: the next step of the search may be quicker. */
const ANSWER_MS_MAX = 8_000;
/** Time that a download may stand still. */
const STALL_MS_MAX = 20_000;

export interface DownloadOptions {
  url: string;
  /** Where the file is written; the caller's temporary folder. */
  path: string;
  /** A larger body is refused: a broken or hostile server must not fill the disk. */
  bytesMax: number;
  /** Hex. Left out only where the content is checked otherwise. */
  sha256?: string;
  signal: AbortSignal;
  progress(doneBytes: number, totalBytes?: number): void;
}

/** @throws an Error whose innermost cause says why: no answer, a status, too large, stalled, wrong checksum. */
export async function download({ url, path, bytesMax, sha256, signal, progress }: DownloadOptions): Promise<void> {
  const limit = new AbortController();
  const giveUp = (text: string) => () => limit.abort(new Error(text));
  let timer = setTimeout(giveUp(`no answer within ${ANSWER_MS_MAX / 1000} s`), ANSWER_MS_MAX);
  try {
    const response = await fetch(url, { signal: AbortSignal.any([signal, limit.signal]) });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      throw new Error(`the server answered ${response.status}`);
    }
    const totalBytes = Number(response.headers.get("content-length")) || undefined;
    const hash = createHash("sha256");
    let doneBytes = 0;
    const check = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        clearTimeout(timer);
        timer = setTimeout(giveUp(`stood still for ${STALL_MS_MAX / 1000} s`), STALL_MS_MAX);
        doneBytes += chunk.length;
        hash.update(chunk);
        progress(doneBytes, totalBytes);
        if (doneBytes > bytesMax) done(new Error(`is larger than the ${bytesMax} bytes it should have at most`));
        else done(null, chunk);
      },
    });
    await pipeline(Readable.fromWeb(response.body), check, createWriteStream(path));
    if (totalBytes !== undefined && doneBytes < totalBytes && !response.headers.has("content-encoding"))
      throw new Error("ended early");
    if (sha256 !== undefined) expectSha256(hash.digest("hex"), sha256);
  } finally {
    clearTimeout(timer);
  }
}

export function expectSha256(actual: string, expected: string): void {
  if (actual !== expected)
    throw new Error(`has a wrong SHA-256 (${actual.slice(0, 12)}… instead of ${expected.slice(0, 12)}…)`);
}

/** @returns hex. */
export async function sha256OfFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash, signal === undefined ? {} : { signal });
  return hash.digest("hex");
}

/**
 * Takes one file out of a zip archive (wheels are zip archives).
 * @param wanted decides by the path inside the archive; the first match is taken.
 * @throws Error when nothing matches or the archive is damaged.
 */
export async function unzipOne(
  archive: string,
  wanted: (name: string) => boolean,
  path: string,
  mode: number,
  signal: AbortSignal,
): Promise<void> {
  const zip = await yauzl.openPromise(archive);
  try {
    for await (const entry of zip.eachEntry()) {
      if (!wanted(entry.fileName)) continue;
      await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(path, { mode }), { signal });
      return;
    }
  } finally {
    zip.close();
  }
  throw new Error("the archive does not contain the file");
}
