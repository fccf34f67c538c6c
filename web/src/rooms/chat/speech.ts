/**
 * What a screen reader is told while a reply streams: whole sentences, never single tokens, so that it can finish a
 * phrase before the next one arrives.
 */

const SENTENCE_END = /[.!?…:](?=["'”’)\]]*\s)|\n/g;

/** The part of `text` after `spoken` characters that ends with a whole sentence; all of it once the reply is done. */
export function nextSpeech(text: string, spoken: number, isDone: boolean): string {
  const rest = text.slice(spoken);
  if (isDone) return rest;
  let end = 0;
  for (const match of rest.matchAll(SENTENCE_END)) end = match.index + match[0].length;
  return rest.slice(0, end);
}
