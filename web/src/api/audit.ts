/** The audit log: what the page asks for. */
import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { getJson } from "./client";
import type { AuditNames, AuditPage, AuditVerdict } from "./types";

export const AUDIT_SHOWN = 50;

/** What the log is filtered by, as it stands in the address. */
export const AUDIT_FILTERS = ["text", "actor", "action", "subject"] as const;
export type AuditOnly = { [name in (typeof AUDIT_FILTERS)[number]]?: string };

export interface AuditQuestion {
  only: AuditOnly;
  /** Unix seconds. */
  since?: number | undefined;
  until?: number | undefined;
}

function searchOf({ only, since, until }: AuditQuestion): URLSearchParams {
  const search = new URLSearchParams();
  for (const name of AUDIT_FILTERS) {
    const value = only[name];
    if (value) search.set(name, value);
  }
  if (since !== undefined) search.set("since", String(since));
  if (until !== undefined) search.set("until", String(until));
  return search;
}

export const auditQuery = (question: AuditQuestion, page: number) =>
  queryOptions({
    queryKey: ["audit", question, page],
    queryFn: ({ signal }) => {
      const search = searchOf(question);
      search.set("limit", String(AUDIT_SHOWN));
      search.set("offset", String((page - 1) * AUDIT_SHOWN));
      return getJson<AuditPage>(`/api/audit?${search}`, signal);
    },
    placeholderData: keepPreviousData,
  });

export const auditNamesQuery = queryOptions({
  queryKey: ["audit", "names"],
  queryFn: ({ signal }) => getJson<AuditNames>("/api/audit/names", signal),
  staleTime: 60_000,
});

export function auditExportPath(question: AuditQuestion, format: "jsonl" | "csv"): string {
  const search = searchOf(question);
  search.set("format", format);
  return `/api/audit/export?${search}`;
}

/** Walks the whole chain; with a head that was noted earlier, also whether it passes through that. */
export function verifyAudit(head: string): Promise<AuditVerdict> {
  const search = head === "" ? "" : `?${new URLSearchParams({ head })}`;
  return getJson<AuditVerdict>(`/api/audit/verify${search}`);
}
