// Beside every file of the built page the same one compressed, so that the server compresses nothing.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";

const LEAST_BYTES = 1000;
const page = fileURLToPath(new URL("../../src/cairn/server/page/", import.meta.url));

for (const name of readdirSync(page, { recursive: true })) {
  const path = join(page, name);
  if (!/\.(js|css|html|svg)$/.test(name) || statSync(path).size < LEAST_BYTES) continue;
  const whole = readFileSync(path);
  for (const [ending, bytes] of [
    ["br", brotliCompressSync(whole)],
    ["gz", gzipSync(whole, { level: 9 })],
  ]) {
    if (bytes.length < 0.9 * whole.length) writeFileSync(`${path}.${ending}`, bytes);
  }
}
