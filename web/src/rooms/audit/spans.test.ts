import { expect, test } from "vitest";
import { boundsOf, spanOf } from "./spans";

const NOW = new Date(2026, 10, 23, 12, 0, 0).getTime();
const at = (day: number) => new Date(2026, 10, day).getTime() / 1000;

test("a span goes back from now", () => {
  expect(boundsOf({ span: "day" }, NOW)).toEqual({ since: NOW / 1000 - 86_400 });
  expect(boundsOf({}, NOW)).toEqual({});
  expect(boundsOf({ span: "for ever" }, NOW)).toEqual({});
});

test("days are whole, the last one too", () => {
  expect(boundsOf({ since: "2026-11-20", until: "2026-11-21" }, NOW)).toEqual({
    since: at(20),
    until: at(22),
  });
  expect(boundsOf({ span: "day", since: "2026-11-20" }, NOW)).toEqual({ since: at(20) });
  expect(spanOf({ span: "day", until: "2026-11-20" })).toBe("days");
});

test("what is no day is left out", () => {
  expect(boundsOf({ since: "yesterday", until: "2026-11-21" }, NOW)).toEqual({ until: at(22) });
});
