/** The server takes bodies of some megabytes: a large file goes in parts. */
const MOST_CHARACTERS = 2_000_000;
const MOST_ITEMS = 500;

/** Consecutive parts, each of few enough characters as JSON; one that alone is larger stands alone. */
export function portions<T>(items: readonly T[], most = MOST_CHARACTERS): T[][] {
  const parts: T[][] = [];
  let part: T[] = [];
  let size = 0;
  for (const item of items) {
    const length = JSON.stringify(item).length;
    if (part.length > 0 && (size + length > most || part.length === MOST_ITEMS)) {
      parts.push(part);
      part = [];
      size = 0;
    }
    part.push(item);
    size += length;
  }
  return part.length > 0 ? [...parts, part] : parts;
}
