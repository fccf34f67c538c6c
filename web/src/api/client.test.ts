import { expect, test } from "vitest";
import { errorFrom, told } from "./client";

test("the remedy stands apart from the message, and last in one line", () => {
  const body = {
    error: { message: "the queue is full; wait a little", remedy: "wait a little", code: "overloaded" },
  };
  const error = errorFrom(429, body, "3");
  expect([error.message, error.remedy, error.code]).toEqual([
    "The queue is full.",
    "Wait a little.",
    "overloaded",
  ]);
  expect(told(error)).toBe("The queue is full. Wait a little.");
});

test("without a remedy, waiting is one when the server says how long", () => {
  expect(errorFrom(503, { error: { message: "loading", remedy: null } }, "2").remedy).toBe(
    "Try again in 2 s.",
  );
  expect(errorFrom(500, null).message).toBe("The server answered 500.");
});
