import { formatCount, formatDuration } from "../../format";
import type { ReplyNote } from "./replies";

/** Tokens a second over the tokens after the first, whose time is the waiting time. */
export function speedOf(tokens: number, writingMs: number): number | null {
  return tokens > 1 && writingMs > 0 ? ((tokens - 1) * 1000) / writingMs : null;
}

const ENDS: Record<string, string> = { length: "at the token limit", stopped: "stopped" };

/** Counts and speed of a reply, in one quiet line. */
export function ReplyFacts({ note }: { note: ReplyNote }) {
  const tokens = note.usage?.completion_tokens ?? note.pieces;
  if (tokens === 0) return null;
  const speed = speedOf(tokens, note.writingMs);
  const parts = [`${formatCount(tokens)} tokens`];
  if (speed !== null) parts.push(`${speed >= 10 ? Math.round(speed) : speed.toFixed(1)}/s`);
  const end = ENDS[note.finishReason];
  if (end) parts.push(end);
  const title = [
    note.usage ? `${note.usage.prompt_tokens} tokens in, ${tokens} out` : `${tokens} tokens`,
    `first after ${formatDuration(note.firstMs / 1000)}`,
  ].join("; ");
  return (
    <span className="turn-facts numbers" title={title}>
      {parts.join(" · ")}
    </span>
  );
}
