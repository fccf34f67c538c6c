import { describe, expect, it } from "vitest";
import { portions } from "../chat/portions";
import { askedAt, filled } from "./filling";

describe("filled", () => {
  it("puts values where their names stand, and leaves what has none", () => {
    expect(filled("{{ a }} and {{b}}, {{a}} {{c}}", { a: "1", b: "{{a}}" })).toBe("1 and {{a}}, 1 {{c}}");
  });
  it("takes an empty value, and dollar signs as they are", () => {
    expect(filled("[{{a}}][{{b}}]", { a: "", b: "$& $1" })).toBe("[][$& $1]");
  });
});

describe("askedAt", () => {
  it.each([
    ["/", 1, { start: 0, end: 1, words: "" }],
    ["say /sum up", 8, { start: 4, end: 8, words: "sum" }],
    ["a\n/x", 4, { start: 2, end: 4, words: "x" }],
  ])("finds it in %j", (text, caret, asked) => {
    expect(askedAt(text, caret)).toEqual(asked);
  });
  it.each([
    ["and/or", 6],
    ["/usr/bin", 8],
    ["/sum up", 7],
    ["", 0],
  ])("finds none in %j", (text, caret) => {
    expect(askedAt(text, caret)).toBeNull();
  });
});

describe("portions", () => {
  it("cuts before a part grows too large and loses nothing", () => {
    const parts = portions(["aaaa", "bb", "cccccccccc", "d"], 12);
    expect(parts).toEqual([["aaaa", "bb"], ["cccccccccc"], ["d"]]);
    expect(portions([])).toEqual([]);
  });
});
