import { describe, expect, test } from "vitest";
import type { UsageLine } from "../../api/types";
import { formatMoney, formatTime, OTHERS, sinceOf, stacked, toSeries } from "./series";

const DAY = 86_400;
const line = (day: string, model: string, requests: number, more: Partial<UsageLine> = {}): UsageLine =>
  ({ day, model, requests, prompt_tokens: 10 * requests, completion_tokens: requests, ...more }) as UsageLine;

describe("columns of a chart", () => {
  const since = Date.parse("2026-01-01") / 1000;

  test("times without requests are none, the largest comes first", () => {
    const lines = [
      line("2026-01-01", "small", 1),
      line("2026-01-03", "big", 5),
      line("2026-01-01", "big", 2),
    ];
    const { names, columns } = toSeries(lines, "model", "requests", "week", since);
    expect(names).toEqual(["big", "small"]);
    expect(columns[0][0]).toBe(since);
    expect(columns[0]).toHaveLength(7);
    expect(columns[1]).toEqual([2, 0, 5, 0, 0, 0, 0]);
    expect(columns[2]).toEqual([1, 0, 0, 0, 0, 0, 0]);
    expect(stacked(columns)[2]).toEqual([3, 0, 5, 0, 0, 0, 0]);
    expect(toSeries(lines, "model", "tokens", "week", since).columns[1]?.[2]).toBe(55);
  });

  test("many small ones are shown together", () => {
    const lines = Array.from({ length: 9 }, (_, place) => line("2026-01-02", `m${place}`, 10 - place));
    const { names, columns } = toSeries(lines, "model", "requests", "week", since);
    expect(names).toEqual(["m0", "m1", "m2", "m3", "m4", OTHERS]);
    expect(columns.at(-1)?.[1]).toBe(5 + 4 + 3 + 2);
  });

  test("times are not added up", () => {
    const lines = [line("2026-01-02", "a", 1, { seconds_p50: 0.5 })];
    expect(toSeries(lines, "model", "time", "week", since).columns[1]).toEqual([
      null,
      0.5,
      null,
      null,
      null,
      null,
      null,
    ]);
  });
});

test("a span ends with the step that runs now", () => {
  const noon = Date.parse("2026-01-08T12:30:00Z");
  expect(sinceOf("week", noon)).toBe(Date.parse("2026-01-09") / 1000 - 7 * DAY);
  expect(sinceOf("day", noon)).toBe(Date.parse("2026-01-07T13:00:00Z") / 1000);
});

test("amounts as people read them", () => {
  expect(formatMoney(12_500_000, "EUR")).toBe("€12.50");
  expect(formatMoney(31, "USD")).toBe("US$0.000031");
  expect(formatMoney(0, "USD")).toBe("US$0.00");
  expect([formatTime(0.012), formatTime(2.34), formatTime(75), formatTime(null)]).toEqual([
    "12 ms",
    "2.3 s",
    "75 s",
    "–",
  ]);
});
