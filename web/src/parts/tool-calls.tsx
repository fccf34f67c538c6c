/** Calls of tools, each folded: its name in sight, its arguments and what it gave when it is opened. */
import { Wrench } from "lucide-react";
import type { ReactNode } from "react";
import type { ToolCall } from "../api/types";
import { CodeBlock } from "./code";
import "./tool-calls.css";

interface ToolCallsProps {
  calls: readonly ToolCall[];
  /** What a call gave, where that is known. */
  gave?: (call: ToolCall) => ReactNode;
}

export function ToolCalls({ calls, gave }: ToolCallsProps) {
  return (
    <ul role="list" className="tool-calls" aria-label="Calls of tools">
      {calls.map((call) => (
        <li key={call.id}>
          <details>
            <summary>
              <Wrench size={14} aria-hidden />
              <span className="mono">{call.function.name}</span>
              <span className="faint clip mono">{call.function.arguments}</span>
            </summary>
            {call.function.arguments ? (
              <CodeBlock title="Arguments" code={indented(call.function.arguments)} language="json" />
            ) : null}
            {gave?.(call)}
          </details>
        </li>
      ))}
    </ul>
  );
}

/** Arguments as a person reads them; what is no JSON, as it is. */
function indented(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
