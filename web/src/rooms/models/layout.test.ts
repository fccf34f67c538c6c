import { describe, expect, test } from "vitest";
import { type Layout, layoutGraph } from "./layout";

const placeOf = (layout: Layout, id: string) => {
  const place = layout.places.find((candidate) => candidate.id === id);
  if (!place) throw new Error(id);
  return place;
};

describe("layoutGraph", () => {
  test("every edge goes to a later layer", () => {
    const edges = [
      ["books", "tokenizer"],
      ["books", "shards"],
      ["tokenizer", "shards"],
      ["shards", "base"],
      ["tokenizer", "base"],
      ["base", "assistant"],
    ] as const;
    const ids = ["assistant", "base", "shards", "tokenizer", "books"];
    const layout = layoutGraph(ids, edges);
    for (const [from, to] of edges) {
      expect(placeOf(layout, from).layer).toBeLessThan(placeOf(layout, to).layer);
    }
    expect(layout.numLayers).toBe(5);
  });

  test("no two nodes share a place, in a graph of fifty", () => {
    const ids = Array.from({ length: 50 }, (_, number) => `n${number}`);
    const edges = ids.flatMap((id, number) =>
      number === 0 ? [] : ([[`n${Math.floor((number - 1) / 3)}`, id]] as [string, string][]),
    );
    const layout = layoutGraph(ids, edges);
    const places = new Set(layout.places.map(({ layer, slot }) => `${layer}/${slot}`));
    expect(places.size).toBe(50);
  });

  test("a long edge gets a way-point in each layer that it passes", () => {
    const layout = layoutGraph(
      ["a", "b", "c"],
      [
        ["a", "b"],
        ["b", "c"],
        ["a", "c"],
      ],
    );
    const long = layout.routes.find(({ from, to }) => from === "a" && to === "c");
    expect(long?.points.map(({ layer }) => layer)).toEqual([0, 1, 2]);
    expect(layout.breadth).toBe(2);
  });

  test("crossed pairs are uncrossed", () => {
    const layout = layoutGraph(
      ["a", "b", "x", "y"],
      [
        ["a", "y"],
        ["b", "x"],
      ],
    );
    const order = (id: string) => placeOf(layout, id).slot;
    expect(Math.sign(order("a") - order("b"))).toBe(Math.sign(order("y") - order("x")));
  });

  test("cycles, loops and edges to nowhere do not hang it", () => {
    const layout = layoutGraph(
      ["a", "b"],
      [
        ["a", "b"],
        ["b", "a"],
        ["a", "a"],
        ["a", "gone"],
      ],
    );
    expect(layout.places).toHaveLength(2);
  });

  test("one node alone", () => {
    expect(layoutGraph(["a"], [])).toMatchObject({ numLayers: 1, breadth: 1 });
  });
});
