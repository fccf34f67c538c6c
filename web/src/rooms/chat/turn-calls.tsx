/** The tools that a reply used, folded: a search of collections that came before it, and calls that it makes. */
import { Link } from "@tanstack/react-router";
import type { StoredSearch, ToolCall, Turn } from "../../api/types";
import { counted } from "../../format";
import { CodeBlock } from "../../parts/code";
import { ToolCalls } from "../../parts/tool-calls";

const SEARCH = "file_search";

interface TurnCallsProps {
  turn: Turn;
  /** What its calls gave, by call. */
  results: ReadonlyMap<string, string>;
}

export function TurnCalls({ turn, results }: TurnCallsProps) {
  const { search } = turn;
  const searches = search ? [asCall(search)] : [];
  const calls = [...searches, ...turn.tool_calls];
  if (calls.length === 0) return null;
  const gave = (call: ToolCall) => {
    if (search && call === searches[0]) return <Found search={search} />;
    const result = results.get(call.id);
    if (result === undefined) return <p className="tool-note">Nobody has said what it gave.</p>;
    if (result === "") return <p className="tool-note">It gave nothing.</p>;
    return <CodeBlock title="Result" code={result} language="text" />;
  };
  return <ToolCalls calls={calls} gave={gave} />;
}

/** What a tool gave to a call that no reply before it makes. */
export function LoneResult({ turn }: { turn: Turn }) {
  const call: ToolCall = {
    id: turn.tool_call_id ?? "",
    type: "function",
    function: { name: turn.tool_call_id ?? "tool", arguments: "" },
  };
  return <TurnCalls turn={{ ...turn, tool_calls: [call] }} results={new Map([[call.id, turn.content]])} />;
}

function asCall({ query, collections }: StoredSearch): ToolCall {
  return {
    id: SEARCH,
    type: "function",
    function: { name: SEARCH, arguments: JSON.stringify({ query, collections }) },
  };
}

function Found({ search: { found } }: { search: StoredSearch }) {
  if (found.length === 0) return <p className="tool-note">It found nothing.</p>;
  return (
    <div className="tool-found">
      <p className="small soft">It found {counted(found.length, "passage")}, the best first.</p>
      <ol role="list">
        {found.map((each) => (
          <li key={each.number}>
            <span className="tool-found-head">
              <span className="source-number">{each.number}</span>
              {each.is_open ? (
                <Link
                  to="/knowledge/$collection/documents/$documentId"
                  params={{
                    collection: each.collection_id || each.collection,
                    documentId: each.document_id,
                  }}
                  search={{ passage: each.chunk_id }}
                  className="clip"
                >
                  {each.filename}
                </Link>
              ) : (
                <span className="clip" title="The document is gone, or not open to you any more">
                  {each.filename}
                </span>
              )}
              <span className="faint">{each.page > 1 ? `page ${each.page}` : each.heading.at(-1)}</span>
              <span className="faint numbers" title="How well it answers, from 0 to 1">
                {each.score.toFixed(2)}
              </span>
            </span>
            {each.quote ? <span className="tool-found-quote">{each.quote}</span> : null}
          </li>
        ))}
      </ol>
    </div>
  );
}
