import { expect, it } from "vitest";
import { scalesOf, shareOf } from "./stages";

it("measures every stage by itself", () => {
  const scales = scalesOf([
    { stages: { lexical: 12, dense: 0.5 } },
    { stages: { dense: 0.25, reranked: -3 } },
    { stages: { reranked: 1 } },
  ]);
  expect(scales.get("lexical")).toEqual({ low: 0, high: 12 });
  expect(scales.get("reranked")).toEqual({ low: -3, high: 1 });
  expect(scales.has("graph")).toBe(false);
  expect(shareOf(0.25, { low: 0, high: 0.5 })).toBe(0.5);
  expect(shareOf(1, { low: -3, high: 1 })).toBe(1);
  expect(shareOf(-3, { low: -3, high: 1 })).toBe(0.02);
  expect(shareOf(0, { low: 0, high: 0 })).toBe(1);
});
