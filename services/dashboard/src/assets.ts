/**
 * The page's files: bundled once at the start of the process from `web/`, kept in memory, and served under names that
 * change with their content.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { rolldown } from "rolldown";

export interface Asset {
  type: string;
  body: Buffer;
}

export interface Assets {
  /** By file name, below `/assets/`. */
  files: ReadonlyMap<string, Asset>;
  /** The one page of the application. */
  index: Buffer;
}

const WEB = join(import.meta.dirname, "web");
const HASH_CHARS = 12;

/** @throws Error when the sources cannot be bundled. */
export async function bundleAssets(): Promise<Assets> {
  const require = createRequire(import.meta.url);
  const [script, own, plot, icon] = await Promise.all([
    bundleScript(),
    readFile(join(WEB, "style.css")),
    readFile(require.resolve("uplot/dist/uPlot.min.css")),
    readFile(join(WEB, "icon.svg")),
  ]);
  const files = new Map<string, Asset>();
  const add = (name: string, extension: string, type: string, body: Buffer) => {
    const file = `${name}-${createHash("sha256").update(body).digest("hex").slice(0, HASH_CHARS)}.${extension}`;
    files.set(file, { type, body });
    return `/assets/${file}`;
  };
  const scriptUrl = add("app", "js", "text/javascript; charset=utf-8", script);
  const styleUrl = add("style", "css", "text/css; charset=utf-8", Buffer.concat([plot, Buffer.from("\n"), own]));
  const iconUrl = add("icon", "svg", "image/svg+xml", icon);
  return { files, index: Buffer.from(page(scriptUrl, styleUrl, iconUrl)) };
}

async function bundleScript(): Promise<Buffer> {
  const build = await rolldown({
    input: join(WEB, "main.tsx"),
    platform: "browser",
    tsconfig: false,
    transform: {
      jsx: { runtime: "automatic", importSource: "preact" },
    },
    logLevel: "warn",
  });
  try {
    const { output } = await build.generate({ format: "iife", minify: true });
    const [chunk, ...others] = output;
    if (others.length > 0) throw new Error(`the bundle has ${output.length} files instead of one`);
    return Buffer.from(chunk.code);
  } finally {
    await build.close();
  }
}

function page(script: string, style: string, icon: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Autellix</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="${icon}" type="image/svg+xml">
<link rel="stylesheet" href="${style}">
<script src="${script}" defer></script>
</head>
<body><div id="app"><p class="loading">Loading …</p></div><noscript><p class="loading">This page needs JavaScript.</p></noscript></body>
</html>
`;
}
