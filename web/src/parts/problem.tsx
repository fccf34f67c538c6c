/** Failures, shown where they happened: what went wrong, what to do, and a way to try again. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ApiError } from "../api/client";

interface ProblemProps {
  error: unknown;
  /** What was being done, as in "The list of runs did not load". */
  what?: string;
  onRetry?: (() => void) | undefined;
  retryLabel?: string;
  children?: ReactNode;
}

export function Problem({ error, what, onRetry, retryLabel = "Try again", children }: ProblemProps) {
  const message = error instanceof Error ? error.message : String(error);
  const remedy = error instanceof ApiError ? error.remedy : "";
  return (
    <div className="problem" role="alert">
      <div>
        <p>
          {what ? <strong>{what}. </strong> : null}
          <WithCode text={message} />
        </p>
        {remedy ? (
          <p>
            <WithCode text={remedy} />
          </p>
        ) : null}
        {children}
      </div>
      {onRetry ? (
        <button type="button" className="button" onClick={onRetry}>
          {retryLabel}
        </button>
      ) : null}
    </div>
  );
}

/** Text in which what stands between backticks is code. */
function WithCode({ text }: { text: string }) {
  // biome-ignore lint/suspicious/noArrayIndexKey: the parts of a fixed text never change places
  return text.split("`").map((part, place) => (place % 2 === 1 ? <code key={place}>{part}</code> : part));
}

export function RouteProblem({ error, reset }: { error: unknown; reset: () => void }) {
  return (
    <div className="room">
      <Problem error={error} what="The page did not load" onRetry={reset} />
    </div>
  );
}

export function NotFound() {
  return (
    <div className="room">
      <h1>There is nothing at this address</h1>
      <p className="soft">
        It may have been removed, or the link is cut short. <Link to="/chat">Go to the chat.</Link>
      </p>
    </div>
  );
}

/** Grey lines in the place of text that is being fetched. */
export function Skeleton({ lines = 3, label }: { lines?: number; label: string }) {
  return (
    <div role="status">
      <span className="hidden-visually">{label}</span>
      {Array.from({ length: lines }, (_, line) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the lines are alike and never change places
        <span key={line} className="skeleton" style={{ width: `${92 - ((line * 37) % 45)}%` }} />
      ))}
    </div>
  );
}
