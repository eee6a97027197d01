#!/usr/bin/env node
// `npx autellix …` inside the repository: the same as `npm run autellix -- …`.
const entry = new URL("../../../scripts/start.mjs", import.meta.url);
await import(entry.href);
