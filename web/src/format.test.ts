import { describe, expect, test } from "vitest";
import {
  artifactName,
  dayLabel,
  daysAgo,
  formatCount,
  formatDuration,
  formatSize,
  matches,
  shortDigest,
  titleFrom,
} from "./format";

const NOW = new Date(2026, 4, 20, 15, 30);
const at = (...parts: [number, number, number, number?]) => new Date(...parts).getTime() / 1000;

test("sizes keep two or three digits and never read 1000", () => {
  expect(formatSize(0)).toBe("0 B");
  expect(formatSize(999)).toBe("999 B");
  expect(formatSize(1500)).toBe("1.5 kB");
  expect(formatSize(999_700)).toBe("1.0 MB");
  expect(formatSize(135_000_000)).toBe("135 MB");
});

test("counts", () => {
  expect(formatCount(950)).toBe("950");
  expect(formatCount(12_345)).toBe("12.3k");
  expect(formatCount(999_999)).toBe("1M");
  expect(formatCount(50_000)).toBe("50k");
});

test("durations", () => {
  expect(formatDuration(3.21)).toBe("3.2 s");
  expect(formatDuration(59.6)).toBe("1 min 0 s");
  expect(formatDuration(3725)).toBe("1 h 2 min");
  expect(formatDuration(200_000)).toBe("2 d 7 h");
});

describe("days", () => {
  test("turn at local midnight", () => {
    expect(daysAgo(at(2026, 4, 20, 0), NOW)).toBe(0);
    expect(daysAgo(at(2026, 4, 19, 23), NOW)).toBe(1);
    expect(daysAgo(at(2026, 4, 18, 23), NOW)).toBe(2);
  });

  test("group conversations", () => {
    expect(dayLabel(at(2026, 4, 20, 9), NOW)).toBe("Today");
    expect(dayLabel(at(2026, 4, 19, 9), NOW)).toBe("Yesterday");
    expect(dayLabel(at(2026, 4, 15, 9), NOW)).toBe("Last 7 days");
    expect(dayLabel(at(2026, 2, 1, 9), NOW)).toBe("March");
    expect(dayLabel(at(2025, 2, 1, 9), NOW)).toBe("March 2025");
  });
});

test("names of artifacts", () => {
  const digest = `sha256:${"0f".repeat(32)}`;
  expect(shortDigest(digest)).toBe("0f0f0f0f0f0f");
  expect(artifactName({ digest, names: [] })).toBe("0f0f0f0f0f0f");
  expect(artifactName({ digest, names: ["assistant:latest"] })).toBe("assistant");
  expect(artifactName({ digest, names: [], metadata: { name: "data/manners.jsonl" } })).toBe("manners.jsonl");
  expect(artifactName({ digest, names: [], kind: "shards", metadata: { recipe: "tale" } })).toBe(
    "tale shards",
  );
  expect(artifactName({ digest, names: [], metadata: { recipe: "tale", stage: "base" } })).toBe("tale base");
  expect(artifactName({ digest, names: ["assistant:production"] })).toBe("assistant:production");
});

test("titles are one line, cut at a word", () => {
  expect(titleFrom("  Tell me a story\nabout a fox ")).toBe("Tell me a story");
  expect(titleFrom(`${"word ".repeat(30)}`)).toBe(`${"word ".repeat(11)}word…`);
  expect(titleFrom("\n")).toBe("New chat");
});

test("a filter matches when every word occurs", () => {
  expect(matches("", "anything")).toBe(true);
  expect(matches("ASSIS model", "assistant", "model")).toBe(true);
  expect(matches("assis dataset", "assistant", "model")).toBe(false);
});
