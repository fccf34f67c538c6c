/** An answer of one side: its text, calls, tokens, and its numbers. */
import { CornerDownLeft } from "lucide-react";
import { useState } from "react";
import { counted, formatDuration } from "../../format";
import { CopyButton } from "../../parts/copy";
import { Markdown } from "../../parts/markdown";
import { Problem } from "../../parts/problem";
import { ToolCalls } from "../../parts/tool-calls";
import { speedOf } from "../chat/reply-facts";
import type { Answer, Choice } from "./answers";
import { Segments } from "./fields";
import { Tokens } from "./tokens";

type View = "text" | "markdown" | "tokens";

interface AnswerViewProps {
  answer: Answer;
  name: string;
  onRetry: () => void;
  /** Go on from this choice: it becomes a message. */
  onTake: (choice: Choice) => void;
}

export function AnswerView({ answer, name, onRetry, onTake }: AnswerViewProps) {
  const [wanted, setView] = useState<View | null>(null);
  const hasTokens = answer.choices.some(({ tokens }) => tokens.length > 0);
  const fallback = hasTokens ? "tokens" : "text";
  const view = wanted === null || (wanted === "tokens" && !hasTokens) ? fallback : wanted;
  const isBusy = answer.phase === "waiting" || answer.phase === "writing";
  const options = [
    ["text", "Text"],
    ["markdown", "Markdown"],
    ...(hasTokens ? [["tokens", "Tokens"] as const] : []),
  ] as const;
  return (
    <div className="play-answer-body" aria-busy={isBusy}>
      {answer.choices.length > 0 ? (
        <Segments
          label={`View of ${name}`}
          name={`view-${name}`}
          value={view}
          onChange={setView}
          options={options}
        />
      ) : null}
      {answer.choices.map((choice, place) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the number of a choice is its name
        <article key={place} className="play-reply" aria-label={`Reply ${place + 1}`}>
          <ChoiceText choice={choice} view={view} />
          {choice.calls.length > 0 ? <ToolCalls calls={choice.calls} /> : null}
          {choice.sources.length > 0 ? (
            <p className="small soft">
              {choice.sources
                .map(({ number, filename, page }) => `[${number}] ${filename}, page ${page}`)
                .join("; ")}
            </p>
          ) : null}
          {isBusy ? null : (
            <div className="play-reply-foot">
              <CopyButton text={choice.text} label="Copy the reply" />
              <button
                type="button"
                className="icon-button tight"
                aria-label="Go on from this reply"
                title="Go on from this reply: it becomes a message"
                onClick={() => onTake(choice)}
              >
                <CornerDownLeft size={14} aria-hidden />
              </button>
              {choice.finishReason ? <span className="small faint">ended: {choice.finishReason}</span> : null}
            </div>
          )}
        </article>
      ))}
      {answer.phase === "waiting" ? <span className="skeleton" style={{ width: "11rem" }} /> : null}
      {answer.phase === "failed" ? (
        <Problem
          error={answer.error}
          what={answer.pieces > 0 ? "The reply broke off" : "No reply"}
          onRetry={onRetry}
        />
      ) : null}
      <Facts answer={answer} />
    </div>
  );
}

function ChoiceText({ choice, view }: { choice: Choice; view: View }) {
  if (view === "tokens" && choice.tokens.length > 0) return <Tokens tokens={choice.tokens} />;
  if (choice.text === "") return null;
  return view === "markdown" ? <Markdown text={choice.text} /> : <p className="play-text">{choice.text}</p>;
}

function Facts({ answer }: { answer: Answer }) {
  const { usage, pieces, firstMs, writingMs, totalMs, phase } = answer;
  if (phase === "waiting" || (pieces === 0 && !usage)) return null;
  const tokens = usage?.completion_tokens ?? pieces;
  // What came in one go says nothing about the time between its tokens.
  const speed = writingMs < SHORT_MS ? (tokens * 1000) / totalMs : speedOf(tokens, writingMs);
  const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
  const facts = [
    ["First token", pieces > 1 ? shortTime(firstMs) : ""],
    ["Speed", speed === null ? "" : `${speed.toFixed(1)} tokens/s`],
    ["In all", shortTime(totalMs)],
    ["In", usage ? `${counted(usage.prompt_tokens, "token")}${cached ? `, ${cached} from cache` : ""}` : ""],
    ["Out", usage ? counted(usage.completion_tokens, "token") : counted(pieces, "piece")],
    ["Answered by", answer.target],
    ["Ended", phase === "stopped" ? "stopped" : ""],
  ] as const;
  return (
    <dl className="play-facts numbers">
      {facts
        .filter(([, value]) => value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      {answer.receiptId ? (
        <div>
          <dt>Receipt</dt>
          <dd>
            <span className="mono">{answer.receiptId.slice(0, 13)}…</span>
            <CopyButton text={answer.receiptId} label="Copy the receipt’s id" />
          </dd>
        </div>
      ) : null}
    </dl>
  );
}

const SHORT_MS = 25;

function shortTime(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : formatDuration(ms / 1000);
}
