/** Everything made: data, tokenizers, models, reports. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { artifactsQuery } from "../../api/queries";
import type { ArtifactEntry } from "../../api/types";
import { artifactName, formatMoment, formatSize, formatWhen, matches } from "../../format";
import { Digest } from "../../parts/digest";
import { Choice, Filter } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Table } from "../../parts/table";
import { MemoryCell, MemoryMeter } from "./memory";
import "./models.css";

export function ModelsRoom() {
  const { q = "", kind = "" } = useSearch({ from: "/house/models" });
  const navigate = useNavigate({ from: "/models" });
  const artifacts = useQuery(artifactsQuery);
  const all = artifacts.data ?? [];
  const kinds = [...new Set(all.map((artifact) => artifact.kind))].sort();
  const shown = all
    .filter((artifact) => kind === "" || artifact.kind === kind)
    .filter((artifact) =>
      matches(q, artifactName(artifact), artifact.kind, artifact.digest, ...artifact.names),
    )
    .sort((a, b) => b.created_at - a.created_at);
  const filter = (change: { q?: string; kind?: string }) =>
    void navigate({ search: (old) => ({ ...old, ...change }), replace: true });

  return (
    <Room
      title="Models"
      tools={
        <>
          <Filter label="Filter by name, kind or digest" value={q} onChange={(text) => filter({ q: text })} />
          <Choice
            label="Kind"
            value={kind}
            onChange={(value) => filter({ kind: value })}
            options={[["", "All kinds"], ...kinds.map((name) => [name, name] as const)]}
          />
        </>
      }
    >
      <MemoryMeter />
      <QueryState
        query={artifacts}
        what="The artifacts"
        lines={8}
        count={shown.length}
        isFiltered={all.length > 0}
      >
        <p>Nothing has been made here yet.</p>
        <p>
          <code>cairn build recipes/tutorial.toml</code> makes a small model from text in a few minutes;{" "}
          <code>cairn import PATH</code> brings one that you have. What they make is listed here with
          everything it was made from.
        </p>
      </QueryState>
      {shown.length > 0 ? <ArtifactTable artifacts={shown} /> : null}
    </Room>
  );
}

function ArtifactTable({ artifacts }: { artifacts: readonly ArtifactEntry[] }) {
  return (
    <Table
      columns={[
        "Name",
        "Kind",
        { head: "Digest", isWide: true },
        { head: "Size", isRight: true },
        "Memory",
        { head: "Made", isRight: true, isWide: true },
      ]}
      className="artifacts"
    >
      {artifacts.map((artifact) => (
        <tr key={artifact.digest}>
          <td>
            <Link
              to="/models/$digest"
              params={{ digest: artifact.digest }}
              className="row-link"
              data-unnamed={artifact.names.length === 0 || undefined}
            >
              {artifactName(artifact)}
            </Link>
            {artifact.names.slice(1).map((name) => (
              <span key={name} className="tag">
                {name}
              </span>
            ))}
          </td>
          <td className="soft">{artifact.kind}</td>
          <td className="wide-only">
            <Digest digest={artifact.digest} />
          </td>
          <td className="right numbers soft">{formatSize(artifact.size)}</td>
          <td className="memory-cell">
            <MemoryCell digest={artifact.digest} />
          </td>
          <td className="right numbers soft wide-only" title={formatMoment(artifact.created_at)}>
            {formatWhen(artifact.created_at)}
          </td>
        </tr>
      ))}
    </Table>
  );
}
