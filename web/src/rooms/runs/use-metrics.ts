import { type QueryClient, queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { getJson } from "../../api/client";
import type { MetricsLine, MetricsPage } from "../../api/types";

interface Metrics {
  lines: readonly MetricsLine[];
  next: number;
}

const POLL_MS = 2000;

function metricsQuery(client: QueryClient, runId: string) {
  const queryKey = ["metrics", runId] as const;
  return queryOptions({
    queryKey,
    // Every answer continues the one before: only new lines travel.
    queryFn: async ({ signal }): Promise<Metrics> => {
      let { lines, next } = client.getQueryData<Metrics>(queryKey) ?? { lines: [], next: 0 };
      for (;;) {
        const path = `/api/runs/${encodeURIComponent(runId)}/metrics?after=${next}`;
        const page = await getJson<MetricsPage>(path, signal);
        if (page.next === next) return { lines, next };
        lines = [...lines, ...page.lines];
        next = page.next;
      }
    },
    structuralSharing: false,
    staleTime: 0,
  });
}

/** A run's metrics; while it runs, new lines every two seconds. */
export function useMetrics(runId: string, isLive: boolean) {
  const client = useQueryClient();
  const query = useQuery({ ...metricsQuery(client, runId), refetchInterval: isLive ? POLL_MS : false });
  const { refetch } = query;
  // The last lines are written just before the run ends, maybe after the last poll.
  useEffect(() => {
    if (!isLive) void refetch();
  }, [isLive, refetch]);
  return query;
}
