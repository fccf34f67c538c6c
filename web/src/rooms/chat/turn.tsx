/** One turn: a question that can be edited, or an answer that can be judged, traced and asked for again. */
import { ChevronLeft, ChevronRight, Pencil, ReceiptText, RotateCcw } from "lucide-react";
import { useRef, useState } from "react";
import type { Turn } from "../../api/types";
import { CopyButton } from "../../parts/copy";
import { Markdown } from "../../parts/markdown";
import { AttachmentChips } from "./attachments";
import { Judgement } from "./judgement";
import { replies } from "./replies";
import { ReplyFacts } from "./reply-facts";
import { Sourced } from "./sourced";
import { LoneResult, TurnCalls } from "./turn-calls";

interface TurnProps {
  turn: Turn;
  /** What the calls of a reply gave. */
  results: ReadonlyMap<string, string>;
  siblings: readonly Turn[];
  conversationId: string | null;
  isLast: boolean;
  isBusy: boolean;
  isEditing: boolean;
  onEdit: () => void;
  /** The new text, or null when nothing changes. */
  onEditDone: (text: string | null) => void;
  onShow: (turn: Turn) => void;
  onAnswer: (() => void) | null;
  onReceipt: (receiptId: string) => void;
}

export function TurnView(props: TurnProps) {
  const { turn, isLast, isBusy } = props;
  if (turn.role === "user") {
    if (props.isEditing && !isBusy) return <EditTurn text={turn.content} onDone={props.onEditDone} />;
    return (
      <article id={turn.id} tabIndex={-1} className="turn user" aria-label="You">
        <p className="said">{turn.content}</p>
        <AttachmentChips entries={turn.attachments} />
        <div className="turn-foot">
          <div className="turn-actions">
            <button
              type="button"
              className="icon-button tight"
              aria-label="Edit"
              title="Edit"
              disabled={isBusy}
              onClick={props.onEdit}
            >
              <Pencil size={14} aria-hidden />
            </button>
            <CopyButton text={turn.content} label="Copy the message" />
          </div>
          <Branches {...props} />
        </div>
      </article>
    );
  }
  if (turn.role === "tool") {
    return (
      <article id={turn.id} tabIndex={-1} className="turn assistant" aria-label="Result of a tool">
        <LoneResult turn={turn} />
        <Branches {...props} />
      </article>
    );
  }
  const note = replies.noteOf(turn.id);
  const hasText = turn.content !== "";
  const { receipt_id: receiptId } = turn;
  return (
    <article
      id={turn.id}
      tabIndex={-1}
      className="turn assistant"
      aria-label="Reply"
      data-last={isLast || undefined}
    >
      <TurnCalls turn={turn} results={props.results} />
      {turn.annotations.length > 0 || turn.sentences.length > 0 ? (
        <Sourced turn={turn} />
      ) : (
        <Markdown text={turn.content} />
      )}
      <div className="turn-foot">
        <Branches {...props} />
        <div className="turn-actions">
          {hasText ? <CopyButton text={turn.content} label="Copy the reply" /> : null}
          {props.onAnswer ? (
            <button
              type="button"
              className="icon-button tight"
              aria-label="Regenerate"
              title="Regenerate"
              disabled={isBusy}
              onClick={props.onAnswer}
            >
              <RotateCcw size={14} aria-hidden />
            </button>
          ) : null}
          {hasText ? <Judgement turn={turn} conversationId={props.conversationId} /> : null}
          {receiptId ? (
            <button
              type="button"
              className="icon-button tight"
              aria-label="Receipt"
              title="Receipt: what made this reply"
              onClick={() => props.onReceipt(receiptId)}
            >
              <ReceiptText size={14} aria-hidden />
            </button>
          ) : null}
        </div>
        {note ? <ReplyFacts note={note} /> : null}
      </div>
    </article>
  );
}

function Branches({ turn, siblings, isBusy, onShow }: TurnProps) {
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(turn);
  const go = (step: number) => {
    const sibling = siblings[at + step];
    if (sibling) onShow(sibling);
  };
  return (
    <fieldset className="branches">
      <legend className="hidden-visually">Versions</legend>
      <button
        type="button"
        className="icon-button tight"
        aria-label="Earlier version"
        disabled={isBusy || at === 0}
        onClick={() => go(-1)}
      >
        <ChevronLeft size={15} aria-hidden />
      </button>
      <span className="numbers">
        {at + 1}/{siblings.length}
      </span>
      <button
        type="button"
        className="icon-button tight"
        aria-label="Later version"
        disabled={isBusy || at === siblings.length - 1}
        onClick={() => go(1)}
      >
        <ChevronRight size={15} aria-hidden />
      </button>
    </fieldset>
  );
}

function EditTurn({ text, onDone }: { text: string; onDone: (text: string | null) => void }) {
  const [draft, setDraft] = useState(text);
  const hasFocused = useRef(false);
  const canSend = draft.trim() !== "";
  return (
    <form
      className="turn edit"
      onSubmit={(event) => {
        event.preventDefault();
        if (canSend) onDone(draft.trim());
      }}
    >
      <textarea
        ref={(area) => {
          if (!area || hasFocused.current) return;
          hasFocused.current = true;
          area.focus();
          area.setSelectionRange(area.value.length, area.value.length);
        }}
        className="field"
        aria-label="Edit your message"
        rows={2}
        value={draft}
        onChange={(event) => setDraft(event.target.value)}
        onKeyDown={(event) => {
          if (event.nativeEvent.isComposing) return;
          if (event.key === "Escape") {
            event.preventDefault();
            onDone(null);
          } else if (event.key === "Enter" && !event.shiftKey) {
            event.preventDefault();
            if (canSend) onDone(draft.trim());
          }
        }}
      />
      <div className="edit-buttons">
        <span className="small faint">The reply below stays as the earlier version.</span>
        <button type="button" className="button" onClick={() => onDone(null)}>
          Cancel
        </button>
        <button type="submit" className="button primary" disabled={!canSend}>
          Send
        </button>
      </div>
    </form>
  );
}
