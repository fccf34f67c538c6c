import { describe, expect, test } from "vitest";
import type { MetricsLine } from "../../api/types";
import { latest, toColumns } from "./curve";

function line(step: number, split: "train" | "validation", loss: number): MetricsLine {
  return { step, time: 0, split, loss, tokens: step * 100, tokens_per_second: 50, bits_per_byte: null };
}

describe("toColumns", () => {
  test("aligns both splits on one axis", () => {
    const lines = [line(1, "train", 5), line(2, "train", 4), line(2, "validation", 4.5)];
    expect(toColumns(lines, "step")).toEqual([
      [1, 2],
      [5, 4],
      [null, 4.5],
    ]);
    expect(toColumns(lines, "tokens")[0]).toEqual([100, 200]);
  });

  test("a step written again after a resume counts once, with its later value", () => {
    const lines = [line(1, "train", 5), line(2, "train", 4), line(3, "train", 3), line(2, "train", 4.1)];
    expect(toColumns(lines, "step")).toEqual([
      [1, 2, 3],
      [5, 4.1, 3],
      [null, null, null],
    ]);
  });

  test("a loss that is not a number leaves a gap", () => {
    expect(toColumns([line(1, "train", Number.NaN)], "step")[1]).toEqual([null]);
  });
});

test("latest gives the newest value of each", () => {
  const lines = [line(1, "train", 5), line(2, "validation", 4.5), line(3, "train", 4)];
  expect(latest(lines)).toMatchObject({
    step: 3,
    tokens: 300,
    trainLoss: 4,
    validationLoss: 4.5,
    tokensPerSecond: 50,
  });
  expect(latest([])).toMatchObject({ step: 0, trainLoss: null });
});
