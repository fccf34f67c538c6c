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

  test("nodes of a layer never overlap, in a graph of fifty", () => {
    const ids = Array.from({ length: 50 }, (_, number) => `n${number}`);
    const edges = ids.flatMap((id, number) =>
      number === 0 ? [] : [[`n${Math.floor((number - 1) / 3)}`, id] as const],
    );
    const layout = layoutGraph(ids, edges);
    for (let layer = 0; layer < layout.numLayers; layer++) {
      const slots = layout.places.filter((place) => place.layer === layer).map(({ slot }) => slot);
      slots.sort((a, b) => a - b);
      slots.forEach((slot, at) => {
        expect(slot).toBeGreaterThanOrEqual(0);
        expect(slot).toBeLessThanOrEqual(layout.breadth - 1);
        if (at > 0) expect(slot - (slots[at - 1] ?? 0)).toBeGreaterThan(0.999);
      });
    }
  });

  test("a long edge gets a way-point in each layer that it passes", () => {
    const edges = [
      ["a", "b"],
      ["b", "c"],
      ["c", "d"],
      ["a", "x"],
      ["x", "d"],
    ] as const;
    const layout = layoutGraph(["a", "b", "c", "d", "x"], edges);
    const long = layout.routes.find(({ from, to }) => from === "x" && to === "d");
    expect(long?.points.map(({ layer }) => layer)).toEqual([1, 2, 3]);
  });

  test("an edge that a longer way implies is left out", () => {
    const edges = [
      ["a", "b"],
      ["b", "c"],
      ["a", "c"],
    ] as const;
    const { routes } = layoutGraph(["a", "b", "c"], edges);
    expect(routes.map(({ from, to }) => from + to)).toEqual(["ab", "bc"]);
  });

  test("a chain is straight, and a child stands under the middle of its parents", () => {
    const chain = layoutGraph(
      ["a", "b", "c"],
      [
        ["a", "b"],
        ["b", "c"],
      ],
    );
    expect(new Set(chain.places.map(({ slot }) => slot)).size).toBe(1);
    const fan = layoutGraph(
      ["a", "b", "c", "d"],
      [
        ["a", "d"],
        ["b", "d"],
        ["c", "d"],
      ],
    );
    expect(placeOf(fan, "d").slot).toBeCloseTo(1);
  });

  test("a source stands right before its first use", () => {
    const layout = layoutGraph(
      ["a", "b", "c", "late"],
      [
        ["a", "b"],
        ["b", "c"],
        ["late", "c"],
      ],
    );
    expect(placeOf(layout, "late").layer).toBe(1);
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
