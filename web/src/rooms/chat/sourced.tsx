/** A reply from documents: its marks lead to their sources, and what no source bears out is marked. */
import { Link } from "@tanstack/react-router";
import { HoverCard } from "radix-ui";
import { createContext, type ReactNode, useContext, useMemo, useRef, useState } from "react";
import type { StoredCitation, Turn } from "../../api/types";
import { ChangedMarkdown } from "../../parts/markdown";
import { citing, unsupportedSpans } from "./citing";

const Citations = createContext<readonly StoredCitation[]>([]);

const COMPONENTS = {
  cite: ({ title }: { title?: string | undefined }) => <Mark number={Number(title)} />,
  mark: ({ children, className }: { children?: ReactNode; className?: string | undefined }) => (
    <mark className={className} title="No source says this">
      {children}
    </mark>
  ),
};

type Cited = Pick<Turn, "content" | "annotations" | "sentences">;

export function Sourced({ turn }: { turn: Cited }) {
  const { content, annotations, sentences } = turn;
  const spans = useMemo(() => unsupportedSpans(content, sentences), [content, sentences]);
  return (
    <Citations value={annotations}>
      <ChangedMarkdown text={content} components={COMPONENTS} plugin={citing(annotations, spans)} />
      {spans.length > 0 ? (
        <p className="small warning">
          What is <mark className="unsupported">underlined</mark> is not borne out by a source.
        </p>
      ) : null}
      {annotations.length > 0 ? (
        <ol role="list" className="sources" aria-label="Sources">
          {annotations.map((each) => (
            <li key={each.number}>
              <SourceLink citation={each}>
                <span className="source-number">{each.number}</span>
                <span className="clip">{each.filename || "not open to you"}</span>
                <span className="faint">{each.page > 1 ? `page ${each.page}` : each.heading.at(-1)}</span>
              </SourceLink>
            </li>
          ))}
        </ol>
      ) : null}
    </Citations>
  );
}

/** The number of a source in the text. */
function Mark({ number }: { number: number }) {
  const citation = useContext(Citations).find((each) => each.number === number);
  if (!citation) return `[${number}]`;
  return (
    <SourceLink
      citation={citation}
      label={`Source ${number}: ${citation.filename || "not open to you"}`}
      className="citation"
    >
      {number}
    </SourceLink>
  );
}

interface SourceLinkProps {
  citation: StoredCitation;
  label?: string;
  className?: string;
  children: ReactNode;
}

/** Leads to the passage; shows what it says under a pointer or the keyboard, and at the first touch. */
function SourceLink({ citation, label, className = "source", children }: SourceLinkProps) {
  const [isOpen, setOpen] = useState(false);
  const isTouch = useRef(false);
  const target = {
    to: "/knowledge/$collection/documents/$documentId",
    params: { collection: citation.collection_id || citation.collection, documentId: citation.document_id },
    search: { passage: citation.chunk_id },
  } as const;
  if (!citation.is_open) {
    return (
      <span className={className} data-closed title="The document is gone, or not open to you any more">
        {children}
      </span>
    );
  }
  return (
    <HoverCard.Root open={isOpen} onOpenChange={setOpen} openDelay={200} closeDelay={150}>
      <HoverCard.Trigger asChild>
        <Link
          {...target}
          className={className}
          aria-label={label}
          onPointerDown={(event) => {
            isTouch.current = event.pointerType === "touch";
          }}
          onClick={(event) => {
            if (!isTouch.current || isOpen) return;
            event.preventDefault();
            setOpen(true);
          }}
        >
          {children}
        </Link>
      </HoverCard.Trigger>
      <HoverCard.Portal>
        <HoverCard.Content className="menu quote-card" side="top" sideOffset={6} collisionPadding={12}>
          <blockquote>{citation.quote}</blockquote>
          <p className="small">
            <Link {...target}>Open {citation.filename}</Link>{" "}
            <span className="faint">
              {[citation.collection, ...citation.heading].join(" › ")}, page {citation.page}
            </span>
          </p>
        </HoverCard.Content>
      </HoverCard.Portal>
    </HoverCard.Root>
  );
}
