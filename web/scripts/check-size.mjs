// What a visitor loads before any room's own code, gzipped: the budget of the page is 200 kB.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const BUDGET = 200_000;
const page = fileURLToPath(new URL("../../src/cairn/server/page/", import.meta.url));
const html = readFileSync(join(page, "index.html"), "utf8");
const assets = new Set([...html.matchAll(/(?:src|href)="\/([^"]+)"/g)].map(([, path]) => path));
const sizes = ["index.html", ...assets].map((path) => gzipSync(readFileSync(join(page, path))).length);
const total = sizes.reduce((sum, size) => sum + size, 0);

const kilobytes = (total / 1000).toFixed(1);
process.stdout.write(`${kilobytes} kB gzipped before a room's own code, at most ${BUDGET / 1000} kB\n`);
if (total > BUDGET) process.exit(1);
