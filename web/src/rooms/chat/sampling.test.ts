import { expect, test } from "vitest";
import { parseField } from "../../parts/number-field";
import { chooseModel, countChanged, DEFAULT_SAMPLING, NUMBER_FIELDS, toWire } from "./sampling";

const field = (name: string) => {
  const found = NUMBER_FIELDS.find((candidate) => candidate.name === name);
  if (!found) throw new Error(name);
  return found;
};

test("an empty field leaves the choice to the server", () => {
  expect(parseField(field("temperature"), " ")).toBeNull();
  expect(toWire(DEFAULT_SAMPLING)).toEqual({});
  expect(countChanged(DEFAULT_SAMPLING)).toBe(0);
});

test("zero is a value, not empty", () => {
  const sampling = { ...DEFAULT_SAMPLING, temperature: 0, seed: 0, system: "Be brief." };
  expect(toWire(sampling)).toEqual({ temperature: 0, seed: 0 });
  expect(countChanged(sampling)).toBe(3);
});

test("numbers out of range are refused", () => {
  expect(parseField(field("temperature"), "0.7")).toBe(0.7);
  expect(parseField(field("temperature"), "2.1")).toBeUndefined();
  expect(parseField(field("top_k"), "1.5")).toBeUndefined();
  expect(parseField(field("seed"), "x")).toBeUndefined();
});

test("a model that is gone is not asked", () => {
  expect(chooseModel("b", "a", ["a", "b"])).toBe("b");
  expect(chooseModel(undefined, "a", ["b", "a"])).toBe("a");
  expect(chooseModel("gone", "gone", ["a", "b"])).toBe("a");
  expect(chooseModel(undefined, "", [])).toBe("");
});
