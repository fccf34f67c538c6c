import { describe, expect, it } from "vitest";
import { counted } from "../../format";
import { baseName, flowed, isMarkdown, piecesOf, repeated, shownTexts } from "./text";

describe("piecesOf", () => {
  it("cuts at bytes, not at characters", () => {
    const text = "🙂 the blue door, née door";
    const at = (word: string, from = 0) => {
      const place = text.indexOf(word, from);
      const start = new TextEncoder().encode(text.slice(0, place)).length;
      return [start, start + new TextEncoder().encode(word).length] as const;
    };
    const pieces = piecesOf(text, [at("blue"), at("née"), at("door", 20)]);
    expect(pieces.filter(({ isMarked }) => isMarked).map((piece) => piece.text)).toEqual([
      "blue",
      "née",
      "door",
    ]);
    expect(pieces.map((piece) => piece.text).join("")).toBe(text);
  });

  it("leaves a text without spans whole", () => {
    expect(piecesOf("all", [])).toEqual([{ text: "all", isMarked: false }]);
    expect(piecesOf("", [])).toEqual([]);
  });
});

describe("repeated", () => {
  it("says how much of a passage stood in the one before", () => {
    expect(repeated({ end: 12 }, { start: 8, text: "née door" })).toBe(3);
    expect(repeated({ end: 8 }, { start: 10, text: "door" })).toBe(0);
    expect(repeated(undefined, { start: 0, text: "door" })).toBe(0);
  });
});

it("knows Markdown, paths and plurals", () => {
  expect(["text/markdown", "application/pdf", "text/html"].map(isMarkdown)).toEqual([true, true, true]);
  expect(["text/plain", "text/csv", "text/x-python"].map(isMarkdown)).toEqual([false, false, false]);
  expect(baseName("a/b/c.md")).toBe("c.md");
  expect([counted(1, "page"), counted(1200, "page"), counted(0, "copy", "copies")]).toEqual([
    "1 page",
    "1,200 pages",
    "0 copies",
  ]);
});

it("joins the lines of prose and of nothing else", () => {
  const long = "A process that is killed leaves each document as it was or as it";
  const prose = `${long}\n${long}\nwas.`;
  expect(flowed(prose)).toBe(`${long} ${long} was.`);
  expect(flowed(prose)).toHaveLength(prose.length);
  for (const kept of [
    "Ann,12\nBob,14",
    `${long}\n\n${long}`,
    `${long}\n- a list`,
    `${long}\n2. a list`,
    `| ${long} |\n| ${long} |`,
    `    ${long}\n    ${long}`,
    `# ${long}\n${long}`,
  ]) {
    expect(flowed(kept)).toBe(kept);
  }
});

it("gives the rows of a table that goes on their header again", () => {
  const head = "| city | per day |\n|---|---|";
  const first = `Travel:\n\n${head}\n| Berlin | 40 |`;
  const chunks = [
    { start: 0, end: 50, text: first },
    { start: 51, end: 60, text: "| Oslo | 65 |" },
    { start: 61, end: 70, text: "| Rome | 50 |\n\nThat is all." },
    { start: 71, end: 80, text: "| a | b |\n|---|---|\n| 1 | 2 |" },
    { start: 81, end: 90, text: "Plain" },
  ];
  expect(shownTexts(chunks)).toEqual([
    first,
    `${head}\n| Oslo | 65 |`,
    `${head}\n| Rome | 50 |\n\nThat is all.`,
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "Plain",
  ]);
});
