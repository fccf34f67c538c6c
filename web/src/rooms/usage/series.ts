/** Lines of a report as the columns that a chart wants, and amounts as people read them. */
import type { UsageLine } from "../../api/types";
import type { UsageFilter } from "../../api/usage";
import { formatCount } from "../../format";

export const SPANS = {
  day: { name: "24 hours", seconds: 86_400, step: 3600 },
  week: { name: "7 days", seconds: 7 * 86_400, step: 86_400 },
  month: { name: "30 days", seconds: 30 * 86_400, step: 86_400 },
  quarter: { name: "90 days", seconds: 90 * 86_400, step: 86_400 },
} as const;
export type Span = keyof typeof SPANS;

export const SHOWN = {
  requests: "Requests",
  tokens: "Tokens",
  cost: "Cost",
  time: "Time",
} as const;
export type Shown = keyof typeof SHOWN;

const MOST_SERIES = 5;
export const OTHERS = "others";

/** The first moment of a span that ends now, on a border of its steps. */
export function sinceOf(span: Span, nowMs: number): number {
  const { seconds, step } = SPANS[span];
  return (Math.floor(nowMs / 1000 / step) + 1) * step - seconds;
}

export function amountOf(line: UsageLine, shown: Shown): number | null {
  if (shown === "requests") return line.requests ?? 0;
  if (shown === "tokens") return (line.prompt_tokens ?? 0) + (line.completion_tokens ?? 0);
  if (shown === "cost") return line.cost ?? 0;
  return line.seconds_p50 ?? null;
}

export interface Series {
  names: string[];
  /** Seconds since 1970, then a column for each name; null where nothing was measured. */
  columns: [x: number[], ...values: (number | null)[][]];
}

/** One column for each of the largest names, the others together; times without requests count as none. */
export function toSeries(
  lines: readonly UsageLine[],
  by: UsageFilter,
  shown: Shown,
  span: Span,
  since: number,
): Series {
  const { seconds, step } = SPANS[span];
  const x = Array.from({ length: seconds / step }, (_, place) => since + place * step);
  const byName = new Map<string, Map<number, UsageLine>>();
  for (const line of lines) {
    const at = Date.parse(line.hour ?? line.day ?? "") / 1000;
    const name = line[by] ?? "";
    byName.set(name, (byName.get(name) ?? new Map<number, UsageLine>()).set(at, line));
  }
  const size = (name: string) =>
    [...(byName.get(name)?.values() ?? [])].reduce((sum, line) => sum + sizeOf(line, shown), 0);
  const names = [...byName.keys()].sort((a, b) => size(b) - size(a) || a.localeCompare(b));
  const own = names.slice(0, names.length > MOST_SERIES + 1 ? MOST_SERIES : names.length);
  const rest = shown === "time" ? [] : names.slice(own.length);
  const none = shown === "time" ? null : 0;
  const columns = own.map((name) =>
    x.map((at) => {
      const line = byName.get(name)?.get(at);
      return line ? amountOf(line, shown) : none;
    }),
  );
  if (rest.length > 0) {
    columns.push(
      x.map((at) =>
        rest.reduce((sum, name) => {
          const line = byName.get(name)?.get(at);
          return sum + (line ? (amountOf(line, shown) ?? 0) : 0);
        }, 0),
      ),
    );
  }
  return { names: rest.length > 0 ? [...own, OTHERS] : own, columns: [x, ...columns] };
}

/** Of times, those with most requests are shown; of all else, those with most of it. */
function sizeOf(line: UsageLine, shown: Shown): number {
  return shown === "time" ? (line.requests ?? 0) : (amountOf(line, shown) ?? 0);
}

/** Each column on top of those before it. */
export function stacked(columns: Series["columns"]): Series["columns"] {
  const [x, ...values] = columns;
  let below = x.map(() => 0);
  const tops = values.map((column) => {
    below = column.map((value, place) => (below[place] ?? 0) + (value ?? 0));
    return below;
  });
  return [x, ...tops];
}

export function formatMoney(micro: number, currency: string): string {
  const amount = micro / 1e6;
  const digits = amount === 0 || amount >= 1 ? 2 : amount >= 0.01 ? 4 : 6;
  return amount.toLocaleString("en-GB", {
    style: "currency",
    currency,
    minimumFractionDigits: 2,
    maximumFractionDigits: digits,
  });
}

export function formatTime(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
}

export function formatAmount(value: number, shown: Shown, currency: string): string {
  if (shown === "cost") return formatMoney(value, currency);
  return shown === "time" ? formatTime(value) : formatCount(value);
}

/** What a line is called where its name is empty. */
export function nameText(name: string, by: UsageFilter): string {
  if (name !== "") return name;
  return by === "key" ? "in the browser" : by === "group" ? "no group" : "none";
}
