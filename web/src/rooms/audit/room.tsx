/** The audit log: who did what to what, when, and whether the log is whole. */
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Download } from "lucide-react";
import { useState } from "react";
import { AUDIT_FILTERS, AUDIT_SHOWN, auditExportPath, auditNamesQuery, auditQuery } from "../../api/audit";
import type { AuditEntry } from "../../api/types";
import { counted, formatMoment, formatWhen } from "../../format";
import { Chips } from "../../parts/chips";
import { Choice, Filter } from "../../parts/filter";
import { Pager } from "../../parts/pager";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Table } from "../../parts/table";
import { Entry } from "./entry";
import { boundsOf, SPANS, type Span, spanOf } from "./spans";
import { brief, told } from "./told";
import { Verify } from "./verify";

import "./audit.css";

const MINUTE_MS = 60_000;
const DAY = ["since", "until"] as const;

export function AuditRoom() {
  const search = useSearch({ from: "/house/audit" });
  const navigate = useNavigate({ from: "/audit" });
  const change = (values: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, page: "", ...values }), replace: true });
  const [isChoosingDays, setChoosingDays] = useState(false);
  const span = isChoosingDays ? "days" : spanOf(search);
  // The span moves on with the minute, not with every drawing.
  const bounds = boundsOf(search, Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS);
  const only = Object.fromEntries(AUDIT_FILTERS.map((name) => [name, search[name]]));
  const question = { only, ...bounds };
  const at = Math.max(1, Number.parseInt(search.page ?? "1", 10) || 1);
  const list = useQuery(auditQuery(question, at));
  const entries = list.data?.entries ?? [];
  const isFiltered = Object.keys(bounds).length > 0 || AUDIT_FILTERS.some((name) => search[name]);
  const [opened, setOpened] = useState<AuditEntry | null>(null);

  const chooseSpan = (chosen: string) => {
    setChoosingDays(chosen === "days");
    change({ span: chosen === "days" ? "" : chosen, since: "", until: "" });
  };
  return (
    <Room
      title="Audit"
      tools={
        <>
          <a className="button" href={auditExportPath(question, "csv")} download>
            <Download size={15} aria-hidden />
            CSV
          </a>
          <a className="button" href={auditExportPath(question, "jsonl")} download>
            <Download size={15} aria-hidden />
            JSONL
          </a>
        </>
      }
    >
      <Verify />
      <div className="audit-filters">
        <Filter label="Filter by any text" value={search.text ?? ""} onChange={(text) => change({ text })} />
        <Names actor={search.actor} action={search.action} onChange={change} />
        <Choice
          label="Time"
          value={span}
          onChange={chooseSpan}
          options={(Object.keys(SPANS) as Span[]).map((name) => [name, SPANS[name].name] as const)}
        />
        {span === "days"
          ? DAY.map((name) => (
              <input
                key={name}
                type="date"
                className="field audit-day"
                aria-label={name === "since" ? "First day" : "Last day"}
                value={search[name] ?? ""}
                onChange={(event) => change({ [name]: event.target.value })}
              />
            ))
          : null}
      </div>
      <Chips
        chips={search.subject ? [["subject", search.subject]] : []}
        onRemove={() => change({ subject: undefined })}
      />
      <QueryState
        query={list}
        what="The log"
        lines={10}
        count={list.data?.total ?? 0}
        isFiltered={isFiltered}
      >
        <p>Nothing has been changed here yet.</p>
      </QueryState>
      {entries.length > 0 ? (
        <>
          <p className="small soft numbers audit-count" role="status">
            {counted(list.data?.total ?? 0, "entry", "entries")}
          </p>
          <AuditTable entries={entries} onOpen={setOpened} />
        </>
      ) : null}
      <Pager
        total={list.data?.total ?? 0}
        shown={AUDIT_SHOWN}
        at={at}
        onChange={(page) => change({ page: String(page) })}
      />
      {opened ? <Entry entry={opened} onClose={() => setOpened(null)} /> : null}
    </Room>
  );
}

interface NamesProps {
  actor: string | undefined;
  action: string | undefined;
  onChange: (values: { actor?: string; action?: string }) => void;
}

/** Who, and what: of those that the log knows, and of what the address names. */
function Names({ actor = "", action = "", onChange }: NamesProps) {
  const { actors = [], actions = [] } = useQuery(auditNamesQuery).data ?? {};
  const kinds = actions.map((name) => `${name.split(".")[0]}.*`);
  const several = kinds.filter((kind, place) => kinds.indexOf(kind) !== place);
  return (
    <>
      <Choice
        label="By whom"
        value={actor}
        onChange={(value) => onChange({ actor: value })}
        options={[["", "Anybody"], ...known(actors, actor)]}
      />
      <Choice
        label="Action"
        value={action}
        onChange={(value) => onChange({ action: value })}
        options={[["", "Any action"], ...known([...several, ...actions], action)]}
      />
    </>
  );
}

function known(names: readonly string[], chosen: string) {
  const all = new Set([...names, ...(chosen === "" ? [] : [chosen])]);
  return [...all].sort().map((name) => [name, name] as const);
}

function AuditTable({
  entries,
  onOpen,
}: {
  entries: readonly AuditEntry[];
  onOpen: (entry: AuditEntry) => void;
}) {
  return (
    <Table
      className="audit-table"
      columns={[
        { head: "Entry", isRight: true, isWide: true },
        "When",
        "Action",
        { head: "By", isWide: true },
        "Subject",
        { head: "Details", isWide: true },
      ]}
    >
      {entries.map((entry) => (
        <tr key={entry.seq}>
          <td className="right numbers soft wide-only">{entry.seq.toLocaleString("en-GB")}</td>
          <td className="numbers soft" title={formatMoment(entry.at)}>
            {formatWhen(entry.at)}
          </td>
          <td>
            <button type="button" className="row-link" aria-haspopup="dialog" onClick={() => onOpen(entry)}>
              {entry.action}
            </button>
            <span className="small soft block narrow-only">{entry.actor}</span>
          </td>
          <td className="wide-only">{entry.actor}</td>
          <td className="audit-subject" title={entry.subject}>
            {brief(entry.subject)}
          </td>
          <td className="wide-only small soft audit-details">{told(entry.details)}</td>
        </tr>
      ))}
    </Table>
  );
}
