import { expect, it } from "vitest";
import { citing, unsupportedSpans } from "./citing";

const citation = (number: number) => ({ number }) as Parameters<typeof citing>[0][number];
const text = (value: string, offset: number) => ({
  type: "text",
  value,
  position: { start: { offset } },
});

it("counts in units of the page", () => {
  const sentences = [
    { start: 0, end: 3, sources: [1], supported: true },
    { start: 3, end: 6, sources: [], supported: false },
  ];
  expect(unsupportedSpans("🙂 a b c", sentences)).toEqual([[4, 7]]);
});

it("makes marks of known sources into citations, and only those", () => {
  const tree = { type: "root", children: [text("In the cellar [1], or [7].", 0)] };
  citing([citation(1)], [])()(tree);
  expect(tree.children.map((child) => child.type)).toEqual(["text", "cited", "text", "text", "text"]);
  expect(tree.children[1]).toMatchObject({ data: { hName: "cite", hProperties: { title: "1" } } });
});

it("sets apart what no source says, across elements", () => {
  const strong = { type: "strong", children: [text("loud", 12)] };
  const tree = { type: "root", children: [{ type: "paragraph", children: [text("True. Not", 0), strong] }] };
  citing([], [[6, 16]])()(tree);
  const [paragraph] = tree.children;
  expect(paragraph?.children).toMatchObject([
    { type: "text", value: "True. " },
    { type: "cited", children: [{ value: "Not" }], data: { hName: "mark" } },
    { type: "strong", children: [{ type: "cited", children: [{ value: "loud" }] }] },
  ]);
});
