import { expect, test } from "vitest";
import { problemsIn } from "./problems";

test("every mistake has its line", () => {
  const said =
    "/home/routes.toml: line 6: percent: too much, got 200; line 9: unknown key 'brekaer', did you mean 'breaker'?";
  expect(problemsIn(said)).toEqual([
    { line: 6, message: "percent: too much, got 200" },
    { line: 9, message: "unknown key 'brekaer', did you mean 'breaker'?" },
  ]);
});

test("another refusal names none", () => {
  expect(problemsIn("The file was changed meanwhile.")).toEqual([]);
});
