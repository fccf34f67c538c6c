/** Spans from the server count UTF-8 bytes; here they become pieces of a text. */

export interface Piece {
  text: string;
  isMarked: boolean;
}

/** A text cut at spans of its UTF-8 bytes, which are in order and do not overlap. */
export function piecesOf(text: string, spans: readonly (readonly [number, number])[]): Piece[] {
  const bytes = new TextEncoder().encode(text);
  const decoder = new TextDecoder();
  const pieces: Piece[] = [];
  let place = 0;
  const add = (end: number, isMarked: boolean) => {
    if (end > place) pieces.push({ text: decoder.decode(bytes.subarray(place, end)), isMarked });
    place = Math.max(place, end);
  };
  for (const [start, end] of spans) {
    add(start, false);
    add(end, true);
  }
  add(bytes.length, false);
  return pieces;
}

/** How much of a passage stood at the end of the one before, in characters of its text. */
export function repeated(
  before: { end: number } | undefined,
  chunk: { start: number; text: string },
): number {
  const shared = before === undefined ? 0 : before.end - chunk.start;
  if (shared <= 0) return 0;
  return new TextDecoder().decode(new TextEncoder().encode(chunk.text).subarray(0, shared)).length;
}

const TABLE_HEAD = /^\|.*\|\n\|[ :|-]+\|$/gm;

/**
 * Passages as they are shown, each without what it repeats. A table that goes on in the next passage has its header
 * there again, so that its rows are rows.
 */
export function shownTexts(chunks: readonly { start: number; end: number; text: string }[]): string[] {
  let head = "";
  return chunks.map((chunk, place) => {
    const text = chunk.text.slice(repeated(chunks[place - 1], chunk));
    const goesOn = text.startsWith("|") && !/^\|[ :|-]+\|$/.test(text.split("\n")[1] ?? "");
    const shown = goesOn && head !== "" ? `${head}\n${text}` : text;
    head = shown.match(TABLE_HEAD)?.at(-1) ?? "";
    return shown;
  });
}

/** Text of a passage as a list shows it: without empty lines. */
export function tight(text: string): string {
  return text.replace(/\n\s*\n/g, "\n");
}

/**
 * Prose that its writer broke into lines, as one line; of the same length, so that spans of it stay right. Short lines,
 * lists, tables and code are left as they are.
 */
export function flowed(text: string): string {
  return text.replace(/(?<=^[^\s|#>`].{59,})\n(?=[^\s|#>`*+\d-])/gm, " ");
}

/** Where the text is Markdown: as it came, or as the parser wrote it down. Plain text and code stand as they are. */
export function isMarkdown(mediaType: string): boolean {
  return !mediaType.startsWith("text/") || mediaType === "text/markdown" || mediaType === "text/html";
}

/** The last part of a path. */
export function baseName(source: string): string {
  return source.slice(source.lastIndexOf("/") + 1);
}
