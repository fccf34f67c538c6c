import { expect, test } from "vitest";
import type { TraceSpan } from "../../api/types";
import { aside, attributeText, formatSpan, partOf, toRows } from "./rows";

function span(
  id: string,
  parent: string,
  start: number,
  seconds: number,
  more: Partial<TraceSpan> = {},
): TraceSpan {
  return {
    span_id: id,
    parent_id: parent,
    name: id,
    kind: "internal",
    start,
    seconds,
    attributes: {},
    error: "",
    ...more,
  };
}

test("children stand below their parent, by the time they began", () => {
  const rows = toRows([span("b", "root", 0.6, 0.2), span("a", "root", 0.1, 0.4), span("root", "", 0, 1)], 1);
  expect(rows.map((row) => [row.span.name, row.depth])).toEqual([
    ["root", 0],
    ["a", 1],
    ["b", 1],
  ]);
  expect(rows.map((row) => [row.left, row.width])).toEqual([
    [0, 1],
    [0.1, 0.4],
    [0.6, 0.2],
  ]);
});

test("a parent that is not here leaves its children at the top, and none out", () => {
  const rows = toRows([span("root", "caller", 0, 1), span("second", "elsewhere", 0.5, 0.1)], 1);
  expect(rows.map((row) => [row.span.name, row.depth])).toEqual([
    ["root", 0],
    ["second", 0],
  ]);
});

test("bars stay within the whole and are to be seen", () => {
  const rows = toRows([span("root", "", 0, 0), span("late", "root", 1, 0)], 0);
  for (const row of rows) {
    expect(row.left).toBeGreaterThanOrEqual(0);
    expect(row.width).toBeGreaterThan(0);
    expect(row.left + row.width).toBeLessThanOrEqual(1);
  }
});

test("times of any size", () => {
  expect([0, 0.00034, 0.0123, 0.9999, 1.234, 75.25].map(formatSpan)).toEqual([
    "0 µs",
    "340 µs",
    "12.3 ms",
    "1 s",
    "1.23 s",
    "75.3 s",
  ]);
});

test("an attempt says at which target it was", () => {
  const attempt = span("chat s", "", 0, 1, {
    attributes: { "cairn.target": "quarry/s", "cairn.attempt": 2 },
  });
  expect(aside(attempt)).toBe("quarry/s, attempt 2");
  expect(aside(span("queue", "", 0, 1))).toBe("");
});

test("a failure is a failure wherever it was", () => {
  expect(partOf(span("chat s", "", 0, 1, { kind: "client", error: "upstream.failed" }))).toBe("failed");
  expect(partOf(span("prefill", "", 0, 1))).toBe("model");
  expect(partOf(span("search words", "", 0, 1))).toBe("search");
  expect(partOf(span("limits", "", 0, 1))).toBe("server");
});

test("contents are laid out", () => {
  expect(attributeText('[{"role":"user"}]')).toBe('[\n  {\n    "role": "user"\n  }\n]');
  expect(attributeText("[{not json")).toBe("[{not json");
  expect(attributeText(["stop"])).toBe('["stop"]');
  expect(attributeText(false)).toBe("false");
});
