/** Spans of time that the log is looked at by. */

export const SPANS = {
  all: { name: "Any time", hours: null },
  day: { name: "A day", hours: 24 },
  week: { name: "A week", hours: 7 * 24 },
  month: { name: "A month", hours: 30 * 24 },
  days: { name: "From … to …", hours: null },
} as const;
export type Span = keyof typeof SPANS;

interface Chosen {
  span?: string;
  /** Days as the browser writes them: 2026-11-23. */
  since?: string;
  until?: string;
}

/** Which span is meant; days that are named are one, whatever else is said. */
export function spanOf({ span = "", since, until }: Chosen): Span {
  if (since || until) return "days";
  return Object.hasOwn(SPANS, span) ? (span as Span) : "all";
}

/** From when to when, in seconds; both days are whole, by the clock of who looks. */
export function boundsOf(chosen: Chosen, now: number): { since?: number; until?: number } {
  const span = spanOf(chosen);
  const { hours } = SPANS[span];
  if (hours !== null) return { since: Math.floor(now / 1000) - hours * 3600 };
  const since = midnight(chosen.since, 0);
  const until = midnight(chosen.until, 1);
  return { ...(since === null ? {} : { since }), ...(until === null ? {} : { until }) };
}

function midnight(day: string | undefined, later: number): number | null {
  const found = /^(\d{4})-(\d\d)-(\d\d)$/.exec(day ?? "");
  if (found === null) return null;
  const time = new Date(Number(found[1]), Number(found[2]) - 1, Number(found[3]) + later).getTime() / 1000;
  return Number.isFinite(time) ? Math.max(0, time) : null;
}
