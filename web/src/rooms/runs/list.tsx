/** Builds and other runs, the newest first. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { runsQuery } from "../../api/queries";
import type { RunEntry } from "../../api/types";
import { formatMoment, formatWhen, matches, shortDigest } from "../../format";
import { Choice, Filter } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Table } from "../../parts/table";
import "./runs.css";
import { Elapsed, runName, Status } from "./status";

const STATES = ["running", "succeeded", "failed", "interrupted"] as const;

export function RunsRoom() {
  const { q = "", status = "" } = useSearch({ from: "/house/runs" });
  const navigate = useNavigate({ from: "/runs" });
  const runs = useQuery(runsQuery);
  const all = runs.data ?? [];
  const isFiltered = q !== "" || status !== "";
  // Stages stand inside their build, unless something is looked for.
  const shown = all
    .filter((run) => isFiltered || run.parent_id === null)
    .filter((run) => status === "" || run.status === status)
    .filter((run) => matches(q, run.recipe, run.stage, run.run_id));
  const filter = (change: { q?: string; status?: string }) =>
    void navigate({ search: (old) => ({ ...old, ...change }), replace: true });

  return (
    <Room
      title="Runs"
      tools={
        <>
          <Filter label="Filter by recipe or stage" value={q} onChange={(text) => filter({ q: text })} />
          <Choice
            label="Status"
            value={status}
            onChange={(value) => filter({ status: value })}
            options={[["", "All"], ...STATES.map((name) => [name, name] as const)]}
          />
        </>
      }
    >
      <QueryState query={runs} what="The runs" lines={8} count={shown.length} isFiltered={all.length > 0}>
        <p>Nothing has been run here yet.</p>
        <p>
          <code>cairn build recipes/tutorial.toml</code> goes the whole way from raw text to a model that
          answers. Its stages and loss curves appear here while it works.
        </p>
      </QueryState>
      {shown.length > 0 ? <RunTable runs={shown} /> : null}
    </Room>
  );
}

function RunTable({ runs }: { runs: readonly RunEntry[] }) {
  return (
    <Table
      columns={[
        "Run",
        "Status",
        { head: "Took", isRight: true, isWide: true },
        { head: "Made", isWide: true },
        { head: "Started", isRight: true },
      ]}
    >
      {runs.map((run) => (
        <tr key={run.run_id}>
          <td>
            <Link to="/runs/$runId" params={{ runId: run.run_id }} className="row-link">
              {runName(run)}
            </Link>
            <span className="run-id mono faint">{run.run_id}</span>
          </td>
          <td>
            <Status status={run.status} />
          </td>
          <td className="right numbers soft wide-only">
            <Elapsed run={run} />
          </td>
          <td className="wide-only">
            {run.output ? (
              <Link to="/models/$digest" params={{ digest: run.output }} className="mono small above">
                {shortDigest(run.output)}
              </Link>
            ) : null}
          </td>
          <td className="right numbers soft" title={formatMoment(run.started_at)}>
            {formatWhen(run.started_at)}
          </td>
        </tr>
      ))}
    </Table>
  );
}
