import { describe, expect, test } from "vitest";
import { splitBlocks } from "./blocks";

describe("splitBlocks", () => {
  test("cuts at blank lines", () => {
    expect(splitBlocks("One.\n\nTwo\nlines.\n\n\n# Three")).toEqual(["One.", "Two\nlines.", "# Three"]);
    expect(splitBlocks("")).toEqual([]);
  });

  test("keeps fenced code whole, open or closed", () => {
    const code = "```py\na = 1\n\nb = 2\n```";
    expect(splitBlocks(`Before\n\n${code}\n\nAfter`)).toEqual(["Before", code, "After"]);
    expect(splitBlocks("````\n```\n\n```\n\nstill code")).toHaveLength(1);
  });

  test("keeps a loose list with its paragraphs and nested code together", () => {
    const list = "1. One\n\n   more of one\n\n2. Two\n\n- other";
    expect(splitBlocks(`${list}\n\nAfter`)).toEqual([list, "After"]);
  });

  test("does not pull a list into the paragraph before it", () => {
    expect(splitBlocks("Text\n\n- a\n- b")).toEqual(["Text", "- a\n- b"]);
  });

  test("a growing text only ever changes its last block", () => {
    const text = "Intro.\n\n- a\n\n- b\n\n```js\nx\n\ny\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nEnd.";
    let before: string[] = [];
    for (let end = 1; end <= text.length; end++) {
      const now = splitBlocks(text.slice(0, end));
      expect(now.slice(0, before.length - 1)).toEqual(before.slice(0, -1));
      before = now;
    }
  });
});
