/** The messages of a request, each with its role. */
import { Plus, X } from "lucide-react";
import { Choice } from "../../parts/filter";
import { ToolCalls } from "../../parts/tool-calls";
import type { DraftMessage, Role } from "./request";

interface MessagesProps {
  messages: readonly DraftMessage[];
  onChange: (messages: DraftMessage[]) => void;
}

const ROLES = [
  ["system", "System"],
  ["user", "User"],
  ["assistant", "Assistant"],
  ["tool", "Tool"],
] as const satisfies readonly (readonly [Role, string])[];

export function Messages({ messages, onChange }: MessagesProps) {
  const change = (place: number, some: Partial<DraftMessage>) =>
    onChange(messages.map((message, at) => (at === place ? { ...message, ...some } : message)));
  const add = () => {
    const role: Role = messages.at(-1)?.role === "user" ? "assistant" : "user";
    onChange([...messages, { role, content: "" }]);
  };
  return (
    <section className="play-messages" aria-label="Messages">
      <ol role="list">
        {messages.map((message, place) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: a message is its place; its fields hold nothing of their own
          <li key={place} className="play-message" data-role={message.role}>
            <div className="play-message-head">
              <Choice
                label={`Role of message ${place + 1}`}
                value={message.role}
                onChange={(role) => change(place, { role: role as Role })}
                options={ROLES}
              />
              {message.role === "tool" ? (
                <input
                  className="field mono"
                  aria-label={`Call that message ${place + 1} answers`}
                  placeholder="id of the call"
                  value={message.tool_call_id ?? ""}
                  onChange={(event) => change(place, { tool_call_id: event.target.value })}
                />
              ) : null}
              <button
                type="button"
                className="icon-button tight"
                aria-label={`Remove message ${place + 1}`}
                title="Remove"
                disabled={messages.length === 1}
                onClick={() => onChange(messages.filter((_, at) => at !== place))}
              >
                <X size={15} aria-hidden />
              </button>
            </div>
            <textarea
              className="field"
              aria-label={`Message ${place + 1}`}
              rows={message.role === "user" ? 3 : 1}
              placeholder={message.role === "system" ? "None" : ""}
              value={message.content}
              onChange={(event) => change(place, { content: event.target.value })}
            />
            {message.role === "assistant" && message.tool_calls?.length ? (
              <ToolCalls calls={message.tool_calls} />
            ) : null}
          </li>
        ))}
      </ol>
      <button type="button" className="button" onClick={add}>
        <Plus size={15} aria-hidden />
        Add a message
      </button>
    </section>
  );
}
