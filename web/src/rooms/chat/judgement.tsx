/** Thumbs up or down, and why: stored with the receipt of the reply. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { ThumbsDown, ThumbsUp } from "lucide-react";
import { Popover } from "radix-ui";
import { useState } from "react";
import { sendJson, told } from "../../api/client";
import { conversationQuery } from "../../api/queries";
import type { Feedback, NewFeedback, Turn } from "../../api/types";
import { notify } from "../../parts/toasts";

const THUMBS = [
  { rating: 1, name: "Good reply", Icon: ThumbsUp },
  { rating: -1, name: "Bad reply", Icon: ThumbsDown },
] as const;

interface JudgementProps {
  turn: Turn;
  conversationId: string | null;
}

export function Judgement({ turn, conversationId }: JudgementProps) {
  const [openFor, setOpenFor] = useState<number | null>(null);
  const judge = useJudge(turn, conversationId);
  const rating = turn.feedback?.rating ?? 0;
  const comment = turn.feedback?.comment ?? "";

  return (
    <>
      {THUMBS.map(({ rating: value, name, Icon }) => (
        <Popover.Root
          key={value}
          open={openFor === value}
          onOpenChange={(isOpen) => {
            if (!isOpen) setOpenFor(null);
          }}
        >
          <Popover.Anchor asChild>
            <button
              type="button"
              className="icon-button tight"
              aria-label={name}
              aria-pressed={rating === value}
              title={rating === value && comment ? `${name}: ${comment}` : name}
              onClick={() => {
                const isTakenBack = rating === value;
                judge.mutate({ rating: isTakenBack ? 0 : value, comment: "" });
                setOpenFor(isTakenBack ? null : value);
              }}
            >
              <Icon size={14} aria-hidden fill={rating === value ? "currentColor" : "none"} />
            </button>
          </Popover.Anchor>
          <Popover.Portal>
            <Popover.Content className="menu comment" align="start" sideOffset={6} collisionPadding={12}>
              <CommentForm
                label={value > 0 ? "What was good about it?" : "What was wrong with it?"}
                onDone={(text) => {
                  if (text) judge.mutate({ rating: value, comment: text });
                  setOpenFor(null);
                }}
              />
            </Popover.Content>
          </Popover.Portal>
        </Popover.Root>
      ))}
    </>
  );
}

function CommentForm({ label, onDone }: { label: string; onDone: (text: string) => void }) {
  const [text, setText] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onDone(text.trim());
      }}
    >
      <label>
        <span className="label">{label} (optional)</span>
        <textarea
          className="field"
          rows={2}
          maxLength={10_000}
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
            event.preventDefault();
            onDone(text.trim());
          }}
        />
      </label>
      <div className="edit-buttons">
        <button type="submit" className="button">
          {text.trim() ? "Save" : "Close"}
        </button>
      </div>
    </form>
  );
}

function useJudge(turn: Turn, conversationId: string | null) {
  const client = useQueryClient();
  const key = conversationQuery(conversationId ?? "").queryKey;
  const show = (feedback: Feedback | null) =>
    client.setQueryData(key, (old) =>
      old
        ? {
            ...old,
            messages: old.messages.map((message) =>
              message.id === turn.id ? { ...message, feedback } : message,
            ),
          }
        : old,
    );
  return useMutation({
    mutationFn: ({ rating, comment }: Pick<Required<NewFeedback>, "rating" | "comment">) =>
      sendJson<Feedback>("POST", "/api/feedback", {
        message_id: turn.id,
        receipt_id: turn.receipt_id ?? "",
        rating,
        comment,
      }),
    onMutate: ({ rating, comment }) => {
      show({ rating, comment });
      return turn.feedback;
    },
    onSuccess: (stored) => show(stored),
    onError: (error, _change, before) => {
      show(before ?? null);
      notify(told(error));
    },
  });
}
