/** Use and limits: what the page asks for. */
import { queryOptions } from "@tanstack/react-query";
import { getJson } from "./client";
import type { LimitList, UsageReport } from "./types";

/** Names that use can be split and filtered by. */
export const USAGE_FILTERS = ["model", "user", "key", "group", "endpoint", "outcome"] as const;
export type UsageFilter = (typeof USAGE_FILTERS)[number];
export type UsageOnly = { [name in UsageFilter]?: string };

export interface UsageQuestion {
  by: string;
  since: number;
  only: UsageOnly;
}

export function usagePath({ by, since, only }: UsageQuestion, format = "json"): string {
  const search = new URLSearchParams({ by, since: String(since), format });
  for (const name of USAGE_FILTERS) {
    const value = only[name];
    if (value !== undefined) search.set(name, value);
  }
  return `/api/usage?${search}`;
}

export const usageQuery = (question: UsageQuestion) =>
  queryOptions({
    queryKey: ["usage", question],
    queryFn: ({ signal }) => getJson<UsageReport>(usagePath(question), signal),
    refetchInterval: 30_000,
  });

export const limitsQuery = queryOptions({
  queryKey: ["limits"],
  queryFn: ({ signal }) => getJson<LimitList>("/api/limits", signal),
  refetchInterval: 15_000,
});
