import { Markdown } from "../../parts/markdown";
import { Problem } from "../../parts/problem";
import { ToolCalls } from "../../parts/tool-calls";
import { isWorthKeeping, type Reply, replies } from "./replies";
import { ReplyFacts } from "./reply-facts";

/** The reply being written, or what went wrong with it. */
export function LiveTurn({ reply, onRetry }: { reply: Reply; onRetry: () => void }) {
  const isFailed = reply.phase === "failed";
  return (
    <article className="turn assistant" aria-label="Reply" aria-busy={!isFailed}>
      {reply.text ? <Markdown text={reply.text} /> : null}
      {reply.calls.length > 0 ? <ToolCalls calls={reply.calls} /> : null}
      {isWorthKeeping(reply) || isFailed ? null : (
        <p className="waiting" aria-hidden>
          <span className="skeleton" style={{ width: "11rem" }} />
        </p>
      )}
      {isFailed ? (
        <Problem
          error={reply.error}
          what={reply.pieces > 0 ? "The reply broke off" : "No reply"}
          onRetry={onRetry}
        >
          <button type="button" className="link-button" onClick={() => replies.dismiss(reply.conversationId)}>
            Dismiss
          </button>
        </Problem>
      ) : (
        <div className="turn-foot">
          <ReplyFacts note={reply} />
        </div>
      )}
    </article>
  );
}
