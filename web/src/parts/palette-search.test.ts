import { expect, test } from "vitest";
import { rank } from "./palette-search";

const items = ["Chat", "Models", "Runs", "Settings", "New chat", "assistant:latest"].map((text) => ({
  text,
}));
const texts = (query: string) => rank(query, items, 9).map(({ text }) => text);

test("an empty query keeps everything in order", () => {
  expect(texts("")).toEqual(items.map(({ text }) => text));
});

test("whole words come before scattered letters", () => {
  expect(texts("chat")).toEqual(["Chat", "New chat"]);
  expect(texts("nc")[0]).toBe("New chat");
  expect(texts("latest")).toEqual(["assistant:latest"]);
});

test("letters out of order do not match", () => {
  expect(texts("tahc")).toEqual([]);
});
