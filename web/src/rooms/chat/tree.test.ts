import { describe, expect, test } from "vitest";
import type { Turn } from "../../api/types";
import { turn as made } from "./testing";
import { ancestry, pathOf, picksTowards } from "./tree";

function turn(id: string, parent_id: string | null, role = "user"): Turn {
  return made(id, role, id, { parent_id });
}

// q1 ─ a1 ─ q2 ─ a2          (first branch)
//    └ a1b ─ q3              (a second answer to q1)
// q1e ─ a4                   (q1 edited)
const TURNS = [
  turn("q1", null),
  turn("a1", "q1", "assistant"),
  turn("q2", "a1"),
  turn("a2", "q2", "assistant"),
  turn("a1b", "q1", "assistant"),
  turn("q3", "a1b"),
  turn("q1e", null),
  turn("a4", "q1e", "assistant"),
];
const ids = (picks: Record<string, string>) => pathOf(TURNS, picks).map((step) => step.turn.id);

describe("pathOf", () => {
  test("takes the newest child where nothing is picked", () => {
    expect(ids({})).toEqual(["q1e", "a4"]);
  });

  test("follows picks, and ignores one that is gone", () => {
    expect(ids({ "": "q1" })).toEqual(["q1", "a1b", "q3"]);
    expect(ids({ "": "q1", q1: "a1" })).toEqual(["q1", "a1", "q2", "a2"]);
    expect(ids({ "": "q1", q1: "deleted" })).toEqual(["q1", "a1b", "q3"]);
  });

  test("names the siblings of each step", () => {
    const [first, second] = pathOf(TURNS, { "": "q1" });
    expect(first?.siblings.map((sibling) => sibling.id)).toEqual(["q1", "q1e"]);
    expect(second?.siblings.map((sibling) => sibling.id)).toEqual(["a1", "a1b"]);
  });

  test("shows a turn whose parent is missing", () => {
    expect(pathOf([turn("x", "nowhere")], {}).map((step) => step.turn.id)).toEqual(["x"]);
  });

  test("ends on a loop", () => {
    const loop = [turn("a", "b"), turn("b", "a")];
    expect(pathOf(loop, {}).length).toBeLessThanOrEqual(3);
  });
});

describe("picksTowards", () => {
  test("brings any turn into view and keeps picks below it", () => {
    for (const wanted of TURNS) {
      expect(ids(picksTowards(TURNS, {}, wanted.id))).toContain(wanted.id);
    }
    expect(ids(picksTowards(TURNS, { q1: "a1" }, "q1"))).toEqual(["q1", "a1", "q2", "a2"]);
  });
});

describe("ancestry", () => {
  test("goes from the first turn to the one asked for", () => {
    expect(ancestry(TURNS, "q3").map(({ id }) => id)).toEqual(["q1", "a1b", "q3"]);
    expect(ancestry(TURNS, null)).toEqual([]);
  });
});
