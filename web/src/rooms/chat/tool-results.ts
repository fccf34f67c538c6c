/**
 * Calls of tools and what they gave. A reply makes calls, and the turns right after it hold what each gave; they
 * are shown and told as one.
 */
import type { ChatMessage } from "../../api/completions";
import type { Turn } from "../../api/types";

export interface Resulting {
  turn: Turn;
  /** What its calls gave, by call; of one that is not here nobody has said. */
  results: ReadonlyMap<string, string>;
  /** A turn of a tool: what its call gave. */
  isResult: boolean;
  /** Of a tool's turn: the reply before it makes this call, and shows what it gave. */
  isAnswer: boolean;
}

/** Turns of one line, first to last, each with what its calls gave. */
export function withResults(line: readonly Turn[]): Resulting[] {
  const found: Resulting[] = [];
  let results = new Map<string, string>();
  let asked = new Set<string>();
  for (const turn of line) {
    const isResult = turn.role === "tool";
    const callId = turn.tool_call_id ?? "";
    const isAnswer = isResult && asked.has(callId);
    if (isAnswer) results.set(callId, turn.content);
    if (!isResult) {
      results = new Map();
      asked = new Set(turn.tool_calls.map(({ id }) => id));
    }
    found.push({ turn, results: isResult ? new Map() : results, isResult, isAnswer });
  }
  return found;
}

/**
 * A turn as a model is told it, followed by what its calls gave. Models refuse a call that nobody answered, and a
 * message that says nothing; both are left out.
 */
export function asMessages(turn: Turn, content: string, results: ReadonlyMap<string, string>): ChatMessage[] {
  const calls = turn.tool_calls.filter(({ id }) => results.has(id));
  if (calls.length === 0) {
    return turn.tool_calls.length > 0 && content === "" ? [] : [{ role: turn.role, content }];
  }
  return [
    { role: turn.role, content, tool_calls: calls },
    ...calls.map(({ id }) => ({ role: "tool", content: results.get(id) ?? "", tool_call_id: id })),
  ];
}
