/** Requests to models and collections, the newest first: who asked, how it ended, how long it took. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { RefreshCw } from "lucide-react";
import { useMemo, useState } from "react";
import { useMay } from "../../api/identity";
import { modelsQuery } from "../../api/queries";
import { TRACE_FILTERS, type TraceOnly, tracesQuery } from "../../api/traces";
import type { TraceLine } from "../../api/types";
import { counted, formatMoment, formatWhen } from "../../format";
import { Choice } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Table } from "../../parts/table";
import { OUTCOMES, OutcomeMark } from "./outcome";
import { formatSpan } from "./rows";
import "./traces.css";

const SPANS: Record<string, readonly [name: string, seconds: number]> = {
  hour: ["Last hour", 3600],
  day: ["Last day", 86_400],
  week: ["Last 7 days", 7 * 86_400],
  all: ["All that is kept", 0],
};
const SLOWER = ["1", "5", "10", "30", "60"];

export function TracesRoom() {
  const search = useSearch({ from: "/house/traces" });
  const navigate = useNavigate({ from: "/traces" });
  const seesAll = useMay()("read_all_traces");
  const [now, setNow] = useState(() => Math.floor(Date.now() / 1000));
  const span = SPANS[search.span ?? ""] ? (search.span ?? "day") : "day";
  const length = SPANS[span]?.[1] ?? 0;
  const only = useMemo(() => {
    const found: TraceOnly = {};
    for (const name of TRACE_FILTERS) if (search[name] !== undefined) found[name] = search[name];
    return found;
  }, [search]);
  const traces = useInfiniteQuery(tracesQuery(length === 0 ? 0 : now - length, only));
  const lines = useMemo(() => traces.data?.pages.flatMap((page) => page.data) ?? [], [traces.data]);
  const change = (values: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, ...values }), replace: true });

  return (
    <Room
      title="Traces"
      tools={
        <button
          type="button"
          className="button"
          onClick={() => {
            setNow(Math.floor(Date.now() / 1000));
            void traces.refetch();
          }}
        >
          <RefreshCw size={15} aria-hidden />
          Look again
        </button>
      }
    >
      <div className="trace-filters">
        <Choice
          label="Time"
          value={span}
          onChange={(value) => change({ span: value })}
          options={Object.entries(SPANS).map(([value, [name]]) => [value, name] as const)}
        />
        <Choice
          label="Outcome"
          value={search.outcome ?? ""}
          onChange={(value) => change({ outcome: value || undefined })}
          options={[["", "Any outcome"], ...Object.entries(OUTCOMES)]}
        />
        <Choice
          label="Slower than"
          value={search.min_seconds ?? ""}
          onChange={(value) => change({ min_seconds: value || undefined })}
          options={[["", "However slow"], ...SLOWER.map((value) => [value, `${value} s or slower`] as const)]}
        />
        <ModelChoice
          value={search.model ?? ""}
          lines={lines}
          onChange={(value) => change({ model: value || undefined })}
        />
        {seesAll ? (
          <Choice
            label="Person"
            value={search.user ?? ""}
            onChange={(value) => change({ user: value || undefined })}
            options={[["", "Everybody"], ...named(lines, "user_id", search.user)]}
          />
        ) : null}
      </div>
      <QueryState
        query={traces}
        what="The traces"
        lines={8}
        count={lines.length}
        isFiltered={Object.keys(only).length > 0}
      >
        <p>No request was recorded in this time.</p>
        <p>
          Each answer leaves a trace: what it waited for, and how long. Its id is in the header{" "}
          <code>x-cairn-trace</code> of the answer, and in its receipt.
        </p>
      </QueryState>
      {lines.length > 0 ? <TraceTable lines={lines} hasPeople={seesAll} /> : null}
      {traces.hasNextPage ? (
        <button
          type="button"
          className="button trace-more"
          disabled={traces.isFetchingNextPage}
          onClick={() => void traces.fetchNextPage()}
        >
          Older ones
        </button>
      ) : null}
    </Room>
  );
}

interface ModelChoiceProps {
  value: string;
  lines: readonly TraceLine[];
  onChange: (value: string) => void;
}

function ModelChoice({ value, lines, onChange }: ModelChoiceProps) {
  const models = useQuery(modelsQuery);
  const names = new Set([...(models.data ?? []).map(({ id }) => id), ...lines.map(({ model }) => model)]);
  if (value !== "") names.add(value);
  names.delete("");
  const options = [...names].sort().map((name) => [name, name] as const);
  return <Choice label="Model" value={value} onChange={onChange} options={[["", "Any model"], ...options]} />;
}

/** The values of a column as options, and the chosen one whether it is among them or not. */
function named(lines: readonly TraceLine[], column: "user_id", chosen = "") {
  const names = new Set(lines.map((line) => line[column]));
  if (chosen !== "") names.add(chosen);
  names.delete("");
  return [...names].sort().map((name) => [name, name] as const);
}

function TraceTable({ lines, hasPeople }: { lines: readonly TraceLine[]; hasPeople: boolean }) {
  const slowest = Math.max(...lines.map((line) => line.seconds));
  return (
    <Table
      caption={counted(lines.length, "request")}
      columns={[
        "Request",
        "Model",
        ...(hasPeople ? [{ head: "Person", isWide: true }] : []),
        { head: "Outcome", isWide: true },
        { head: "Took", isRight: true },
        { head: "When", isRight: true, isWide: true },
      ]}
    >
      {lines.map((line) => (
        <tr key={line.root_id}>
          <td>
            <Link to="/traces/$traceId" params={{ traceId: line.trace_id }} className="row-link">
              {shortName(line.name)}
            </Link>
            <span className="trace-under">
              <OutcomeMark outcome={line.outcome} error={line.error} />
              <span className="faint">{formatWhen(line.at)}</span>
            </span>
          </td>
          <td className="trace-model">{line.model || <span className="faint">none</span>}</td>
          {hasPeople ? <td className="wide-only soft">{line.user_id || "nobody"}</td> : null}
          <td className="wide-only">
            <OutcomeMark outcome={line.outcome} error={line.error} />
          </td>
          <td className="right numbers">
            <span className="trace-took">
              <span style={{ width: `${Math.max(2, (100 * line.seconds) / slowest)}%` }} />
            </span>
            {formatSpan(line.seconds)}
          </td>
          <td className="right numbers soft wide-only" title={formatMoment(line.at)}>
            {formatWhen(line.at)}
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** `POST /v1/chat/completions` without what all have in common. */
function shortName(name: string): string {
  return name.replace(/^POST /, "").replace(/^\/v1\//, "") || name;
}
