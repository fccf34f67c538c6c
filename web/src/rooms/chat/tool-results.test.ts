import { describe, expect, test } from "vitest";
import type { Turn } from "../../api/types";
import { turn } from "./testing";
import { asMessages, withResults } from "./tool-results";

const call = (id: string) => ({
  id,
  type: "function" as const,
  function: { name: "tide", arguments: '{"at": "Aero"}' },
});

const LINE = [
  turn("q", "user", "when?"),
  turn("a", "assistant", "", { tool_calls: [call("1"), call("2"), call("3")] }),
  turn("r2", "tool", "low", { tool_call_id: "2" }),
  turn("r1", "tool", "", { tool_call_id: "1" }),
  turn("b", "assistant", "At five."),
  turn("lone", "tool", "late", { tool_call_id: "1" }),
];

/** What a model is told of a line. */
function told(line: readonly Turn[]) {
  return withResults(line).flatMap(({ turn, results, isResult }) =>
    isResult ? [] : asMessages(turn, turn.content, results),
  );
}

describe("what calls gave", () => {
  test("is with the reply that makes them, and only while its results come", () => {
    const found = withResults(LINE);
    expect([...(found[1]?.results ?? [])]).toEqual([
      ["2", "low"],
      ["1", ""],
    ]);
    expect(found.map(({ isAnswer }) => isAnswer)).toEqual([false, false, true, true, false, false]);
    expect(found[4]?.results.size).toBe(0);
  });

  test("an id that is used again belongs to the later reply", () => {
    const again = [
      ...LINE.slice(0, 5),
      turn("c", "assistant", "", { tool_calls: [call("1")] }),
      turn("r", "tool", "high", { tool_call_id: "1" }),
    ];
    const found = withResults(again);
    expect(found[1]?.results.get("1")).toBe("");
    expect(found[5]?.results.get("1")).toBe("high");
  });
});

describe("what a model is told", () => {
  test("calls in their order, each answered; what nobody answered or asked is left out", () => {
    expect(told(LINE)).toEqual([
      { role: "user", content: "when?" },
      { role: "assistant", content: "", tool_calls: [call("1"), call("2")] },
      { role: "tool", content: "", tool_call_id: "1" },
      { role: "tool", content: "low", tool_call_id: "2" },
      { role: "assistant", content: "At five." },
    ]);
  });

  test("a reply whose calls nobody answered keeps its words, and is left out without any", () => {
    const unanswered = { tool_calls: [call("1")] };
    expect(told([turn("a", "assistant", "Let me see.", unanswered)])).toEqual([
      { role: "assistant", content: "Let me see." },
    ]);
    expect(told([turn("a", "assistant", "", unanswered)])).toEqual([]);
  });
});
