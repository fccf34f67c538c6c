/** Ranks what the command palette offers: letters of the query must occur in order; word starts and runs count more. */

export function score(query: string, text: string): number {
  const wanted = query.toLowerCase().replace(/\s+/g, "");
  const letters = text.toLowerCase();
  let total = 0;
  let from = 0;
  let last = -2;
  for (const letter of wanted) {
    const at = letters.indexOf(letter, from);
    if (at < 0) return 0;
    const isStart = at === 0 || /[\s:/_-]/.test(letters[at - 1] ?? "");
    total += 1 + (at === last + 1 ? 2 : 0) + (isStart ? 2 : 0);
    last = at;
    from = at + 1;
  }
  // Of two equal matches the shorter text is meant.
  return wanted === "" ? 1 : total + 1 / (1 + letters.length);
}

/** The best matches, best first; the given order decides between equals. */
export function rank<T extends { text: string }>(query: string, items: readonly T[], limit: number): T[] {
  return items
    .map((item, order) => ({ item, order, value: score(query, item.text) }))
    .filter(({ value }) => value > 0)
    .sort((a, b) => b.value - a.value || a.order - b.order)
    .slice(0, limit)
    .map(({ item }) => item);
}
