/** Traces: what the page asks for. */
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { getJson } from "./client";
import type { TraceDetail, TraceList } from "./types";

/** Names that the list can be filtered by, as the address has them. */
export const TRACE_FILTERS = ["model", "user", "outcome", "min_seconds"] as const;
export type TraceFilter = (typeof TRACE_FILTERS)[number];
export type TraceOnly = { [name in TraceFilter]?: string };

export const tracesQuery = (since: number, only: TraceOnly) =>
  infiniteQueryOptions({
    queryKey: ["traces", since, only],
    queryFn: ({ signal, pageParam }) => {
      const search = new URLSearchParams({ since: String(since) });
      for (const name of TRACE_FILTERS) {
        const value = only[name];
        if (value !== undefined) search.set(name, value);
      }
      if (pageParam !== null) search.set("before", pageParam);
      return getJson<TraceList>(`/api/traces?${search}`, signal);
    },
    initialPageParam: null as string | null,
    getNextPageParam: (last) => last.next,
  });

export const traceQuery = (id: string) =>
  queryOptions({
    queryKey: ["trace", id],
    queryFn: ({ signal }) => getJson<TraceDetail>(`/api/traces/${encodeURIComponent(id)}`, signal),
  });
