import { expect, test } from "vitest";
import { told } from "./told";

test("details are told in a line", () => {
  expect(told({ user: "ada", expires: null, models: ["a", "b"], count: 3, name: "" })).toBe(
    "user ada, models a b, count 3",
  );
  expect(told({ digest: `sha256:${"ab".repeat(32)}` })).toBe("digest abababababab");
  expect(told({ digests: Array(9).fill("x"), scopes: [], old_share: { a: 1 } })).toBe(
    'digests 9 values, scopes none, old share {"a":1}',
  );
  expect(told({})).toBe("");
});
