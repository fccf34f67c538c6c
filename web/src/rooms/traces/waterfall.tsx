import { type KeyboardEvent, useMemo, useState } from "react";
import type { TraceSpan } from "../../api/types";
import { aside, attributeText, formatSpan, partOf, type Row, toRows } from "./rows";

const TICKS = [0, 0.25, 0.5, 0.75, 1];

interface WaterfallProps {
  spans: readonly TraceSpan[];
  seconds: number;
}

/** Spans as bars over time, each below its parent; a row opens to what is known of it. */
export function Waterfall({ spans, seconds }: WaterfallProps) {
  const rows = useMemo(() => toRows(spans, seconds), [spans, seconds]);
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const toggle = (id: string) =>
    setOpen((old) => {
      const found = new Set(old);
      if (!found.delete(id)) found.add(id);
      return found;
    });
  return (
    <div className="waterfall">
      <div className="waterfall-ticks" aria-hidden>
        {TICKS.map((tick) => (
          <span key={tick} style={{ left: `${100 * tick}%` }}>
            {tick === 0 ? "0" : formatSpan(tick * seconds)}
          </span>
        ))}
      </div>
      <ol role="list">
        {rows.map((row) => (
          <SpanRow
            key={row.span.span_id}
            row={row}
            isOpen={open.has(row.span.span_id)}
            onToggle={() => toggle(row.span.span_id)}
          />
        ))}
      </ol>
    </div>
  );
}

interface SpanRowProps {
  row: Row;
  isOpen: boolean;
  onToggle: () => void;
}

function SpanRow({ row: { span, depth, left, width }, isOpen, onToggle }: SpanRowProps) {
  const beside = aside(span);
  const detailsId = `span-${span.span_id}`;
  return (
    <li>
      <button
        type="button"
        className="waterfall-row"
        aria-expanded={isOpen}
        aria-controls={isOpen ? detailsId : undefined}
        onClick={onToggle}
        onKeyDown={toNeighbour}
      >
        <span className="waterfall-name" style={{ paddingLeft: `${depth * 0.875}rem` }}>
          <span>{span.name}</span>
          {beside ? <span className="soft">{beside}</span> : null}
          {span.error ? <span className="waterfall-error">{span.error}</span> : null}
        </span>
        <span className="waterfall-line" aria-hidden>
          <span data-part={partOf(span)} style={{ left: `${100 * left}%`, width: `${100 * width}%` }} />
        </span>
        <span className="waterfall-took numbers">{formatSpan(span.seconds)}</span>
      </button>
      {isOpen ? <SpanFacts id={detailsId} span={span} /> : null}
    </li>
  );
}

/** Up and down go from row to row, as in any list. */
function toNeighbour(event: KeyboardEvent<HTMLButtonElement>) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const item = event.currentTarget.closest("li");
  const next = event.key === "ArrowDown" ? item?.nextElementSibling : item?.previousElementSibling;
  const button = next?.querySelector("button");
  if (!button) return;
  event.preventDefault();
  button.focus();
}

function SpanFacts({ id, span }: { id: string; span: TraceSpan }) {
  const attributes = Object.entries(span.attributes).sort(([a], [b]) => a.localeCompare(b));
  return (
    <dl className="facts waterfall-facts" id={id}>
      <dt>Began after</dt>
      <dd className="numbers">{formatSpan(span.start)}</dd>
      <dt>Took</dt>
      <dd className="numbers">{formatSpan(span.seconds)}</dd>
      {span.error ? (
        <>
          <dt>Error</dt>
          <dd className="mono">{span.error}</dd>
        </>
      ) : null}
      {attributes.map(([name, value]) => (
        <Fact key={name} name={name} value={attributeText(value)} />
      ))}
      <dt>Span</dt>
      <dd className="mono">{span.span_id}</dd>
    </dl>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <>
      <dt>{name}</dt>
      <dd className="mono">{value.includes("\n") ? <pre>{value}</pre> : value}</dd>
    </>
  );
}
