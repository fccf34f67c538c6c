import { ChevronLeft, ChevronRight } from "lucide-react";

interface PagerProps {
  total: number;
  /** How many a page has. */
  shown: number;
  /** Which page is open; the first is 1. */
  at: number;
  onChange: (page: number) => void;
}

/** Walks through a long list by pages. */
export function Pager({ total, shown, at, onChange }: PagerProps) {
  const last = Math.max(1, Math.ceil(total / shown));
  if (last === 1) return null;
  return (
    <nav className="pager" aria-label="Pages of the list">
      <button type="button" className="button" disabled={at <= 1} onClick={() => onChange(at - 1)}>
        <ChevronLeft size={15} aria-hidden /> Earlier
      </button>
      <span className="numbers soft">
        {at.toLocaleString("en-GB")} of {last.toLocaleString("en-GB")}
      </span>
      <button type="button" className="button" disabled={at >= last} onClick={() => onChange(at + 1)}>
        Later <ChevronRight size={15} aria-hidden />
      </button>
    </nav>
  );
}
