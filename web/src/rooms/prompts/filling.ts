/** Saved prompts in a text: where `/` asks for one, and what becomes of its variables. */

const VARIABLE = /\{\{\s*([^{}\n]{1,100}?)\s*\}\}/g;

/** A prompt's text with its variables filled in; one without a value stays as it is. */
export function filled(content: string, values: Readonly<Record<string, string>>): string {
  return content.replace(VARIABLE, (whole, name: string) => values[name] ?? whole);
}

export interface Asked {
  /** Where the `/` stands. */
  start: number;
  end: number;
  /** What was typed after it. */
  words: string;
}

/** The `/…` before the caret, at the beginning of a word. */
export function askedAt(text: string, caret: number): Asked | null {
  const found = /(?:^|\s)\/([^\s/]*)$/.exec(text.slice(0, caret));
  const words = found?.[1];
  return words === undefined ? null : { start: caret - words.length - 1, end: caret, words };
}
