import { Link } from "@tanstack/react-router";
import { Hash } from "lucide-react";
import type { RefObject } from "react";
import type { ChunkEntry } from "../../api/types";
import { Markdown } from "../../parts/markdown";

interface PassageProps {
  chunk: ChunkEntry;
  /** What of it is shown. */
  text: string;
  before: ChunkEntry | undefined;
  isMarkdown: boolean;
  hasPages: boolean;
  /** Of the one that was asked for. */
  marked: RefObject<HTMLElement | null> | null;
}

/** One passage, under its page and headings where they change. */
export function Passage({ chunk, text, before, isMarkdown, hasPages, marked }: PassageProps) {
  const heading = chunk.heading.join(" › ");
  const showsHeading = heading !== "" && heading !== before?.heading.join(" › ");
  const showsPage = hasPages && chunk.page !== before?.page;
  return (
    <li
      ref={(item) => {
        if (marked && item) marked.current = item;
      }}
      id={`passage-${chunk.chunk_id}`}
      className="passage"
      aria-current={marked ? "true" : undefined}
    >
      {showsPage || showsHeading ? (
        <p className="passage-where small faint">
          {showsPage ? <span className="tag">page {chunk.page}</span> : null}
          {showsHeading ? <span>{heading}</span> : null}
        </p>
      ) : null}
      <div className="passage-body">
        {isMarkdown ? <Markdown text={text} isExcerpt /> : <pre className="passage-plain">{text}</pre>}
        <Link
          to="."
          search={{ passage: chunk.chunk_id }}
          replace
          className="icon-button tight passage-link"
          aria-label={`Link to this passage${heading ? `, ${heading}` : ""}`}
          title="Link to this passage"
        >
          <Hash size={14} aria-hidden />
        </Link>
      </div>
    </li>
  );
}
