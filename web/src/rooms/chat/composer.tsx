import { ArrowUp, Square } from "lucide-react";
import { type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { Problem } from "../../parts/problem";
import { PromptsButton, usePrompts } from "./slash";

interface ComposerProps {
  conversationId: string | null;
  isBusy: boolean;
  isDisabled: boolean;
  onSend: (text: string) => Promise<void>;
  onStop: () => void;
  onEditLast: () => void;
  /** What stands below the text. */
  children: ReactNode;
}

/** What was typed but not sent, by conversation, as long as the page lives. */
const drafts = new Map<string | null, string>();

/** Enter sends, Shift-Enter breaks the line, Esc stops, Up in an empty box edits the last message. */
export function Composer(props: ComposerProps) {
  const { conversationId, isBusy, isDisabled, onSend, onStop, onEditLast } = props;
  const [text, setText] = useState(drafts.get(conversationId) ?? "");
  const [error, setError] = useState<unknown>(null);
  const [isSending, setSending] = useState(false);
  const box = useRef<HTMLTextAreaElement>(null);
  const canSend = text.trim() !== "" && !isBusy && !isDisabled && !isSending;

  useEffect(() => {
    // A touch keyboard that opens by itself hides the page.
    if (matchMedia("(hover: hover)").matches) box.current?.focus();
  }, []);

  useEffect(() => {
    if (!isBusy) return;
    const onKey = (event: globalThis.KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) onStop();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [isBusy, onStop]);

  const change = (value: string) => {
    setText(value);
    drafts.set(conversationId, value);
  };
  const prompts = usePrompts(box, text, change);
  const submit = async () => {
    if (!canSend) return;
    setSending(true);
    setError(null);
    try {
      drafts.delete(conversationId);
      await onSend(text.trim());
      setText("");
    } catch (problem) {
      change(text);
      setError(problem);
    }
    setSending(false);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    // While an input method composes a word, Enter accepts the word.
    if (event.nativeEvent.isComposing || prompts.onKeyDown(event)) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      void submit();
    } else if (event.key === "ArrowUp" && text === "" && !isBusy) {
      event.preventDefault();
      onEditLast();
    }
  };

  return (
    <div className="composer-box">
      {error ? <Problem error={error} what="Not sent" /> : null}
      <div className="composer">
        <textarea
          {...prompts.field}
          id="composer"
          ref={box}
          rows={1}
          aria-label="Message"
          placeholder="Write a message"
          value={text}
          disabled={isDisabled}
          onChange={(event) => change(event.target.value)}
          onKeyDown={onKeyDown}
        />
        {isBusy ? (
          <button
            type="button"
            className="composer-button"
            aria-label="Stop"
            title="Stop (Esc)"
            onClick={onStop}
          >
            <Square size={13} fill="currentColor" aria-hidden />
          </button>
        ) : (
          <button
            type="button"
            className="composer-button"
            aria-label="Send"
            title="Send (Enter)"
            disabled={!canSend}
            onClick={() => void submit()}
          >
            <ArrowUp size={17} strokeWidth={2.25} aria-hidden />
          </button>
        )}
      </div>
      {prompts.around}
      <div className="composer-foot">
        {props.children}
        <PromptsButton onChoose={prompts.insert} />
      </div>
    </div>
  );
}
