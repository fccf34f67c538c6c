/** What stands in the place of what is asked for: grey lines, why it did not load, or that there is nothing. */
import type { ReactNode } from "react";
import { Problem, Skeleton } from "./problem";

interface QueryStateProps {
  query: {
    isPending: boolean;
    isError: boolean;
    error: unknown;
    refetch: () => unknown;
  };
  /** What is asked for, as in "The runs". */
  what: string;
  lines?: number;
  /** Of a list: how many there are to show. */
  count?: number;
  /** Whether a filter may have left some out. */
  isFiltered?: boolean;
  /** What is said when there is nothing: what belongs here, and how it comes. */
  children?: ReactNode;
}

export function QueryState({ query, what, lines = 6, count, isFiltered = false, children }: QueryStateProps) {
  if (query.isError) {
    return <Problem error={query.error} what={`${what} did not load`} onRetry={() => void query.refetch()} />;
  }
  if (query.isPending) {
    return <Skeleton lines={lines} label={`Loading ${what.charAt(0).toLowerCase()}${what.slice(1)}`} />;
  }
  if (count !== 0) return null;
  return <div className="blank">{isFiltered ? <p>Nothing matches the filter.</p> : children}</div>;
}
