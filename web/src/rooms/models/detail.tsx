/** One artifact: its card, what it came from, what is in it. */
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { FlaskConical, MessageSquare } from "lucide-react";
import { artifactQuery, artifactsQuery, lineageQuery, modelsQuery } from "../../api/queries";
import type { ArtifactDetail, FileEntry } from "../../api/types";
import { artifactName, formatMoment, formatSize } from "../../format";
import { Digest } from "../../parts/digest";
import { Markdown } from "../../parts/markdown";
import { QueryState } from "../../parts/query-state";
import { Back } from "../../parts/room";
import { Table } from "../../parts/table";
import { useTitle } from "../../parts/title";
import { LineageGraph } from "./lineage-graph";
import "./models.css";

export function ModelRoom() {
  const { digest } = useParams({ from: "/house/models/$digest" });
  const artifact = useQuery(artifactQuery(digest));
  useTitle(artifact.data ? artifactName(artifact.data) : "Models");

  return (
    <div className="room">
      <Back to="/models">Models</Back>
      <QueryState query={artifact} what="The artifact" lines={10} />
      {artifact.data ? <Detail artifact={artifact.data} /> : null}
    </div>
  );
}

function Detail({ artifact }: { artifact: ArtifactDetail }) {
  const models = useQuery(modelsQuery).data ?? [];
  const name = artifactName(artifact);
  const chat = models.find(
    ({ id }) => artifact.names.includes(id) || artifact.names.includes(`${id}:latest`),
  );
  return (
    <>
      <div className="room-head">
        <h1>{name}</h1>
        {chat ? (
          <div className="room-tools">
            <Link to="/playground" search={{ model: chat.id }} className="button">
              <FlaskConical size={15} aria-hidden /> Try it
            </Link>
            <Link to="/chat" search={{ model: chat.id }} className="button">
              <MessageSquare size={15} aria-hidden /> Chat with it
            </Link>
          </div>
        ) : null}
      </div>
      <dl className="facts">
        <dt>Kind</dt>
        <dd>{artifact.kind}</dd>
        <dt>Digest</dt>
        <dd>
          <Digest digest={artifact.digest} />
        </dd>
        <dt>Names</dt>
        <dd>
          {artifact.names.length === 0 ? <span className="faint">none</span> : null}
          {artifact.names.map((alias) => (
            <span key={alias} className="tag">
              {alias}
            </span>
          ))}
        </dd>
        <dt>Size</dt>
        <dd className="numbers">
          {formatSize(artifact.size)} in {artifact.files.length}{" "}
          {artifact.files.length === 1 ? "file" : "files"}
        </dd>
        <dt>Made</dt>
        <dd>
          {formatMoment(artifact.created_at)}
          {artifact.run_id ? (
            <>
              {" by run "}
              <Link to="/runs/$runId" params={{ runId: artifact.run_id }} className="mono">
                {artifact.run_id}
              </Link>
            </>
          ) : null}
        </dd>
        <MadeFrom parents={artifact.parents} />
      </dl>
      <LineageSection digest={artifact.digest} hasParents={artifact.parents.length > 0} />
      {artifact.card ? (
        <section className="section" aria-label="Card">
          <Markdown text={artifact.card} />
        </section>
      ) : null}
      <MetadataSection metadata={artifact.metadata} />
      <FilesSection files={artifact.files} />
    </>
  );
}

/** The direct parents by name; the drawing leaves out what a longer way implies. */
function MadeFrom({ parents }: { parents: readonly string[] }) {
  const artifacts = useQuery(artifactsQuery).data ?? [];
  if (parents.length === 0) return null;
  return (
    <>
      <dt>Made from</dt>
      <dd className="made-from">
        {parents.map((digest) => {
          const parent = artifacts.find((artifact) => artifact.digest === digest);
          return (
            <Link key={digest} to="/models/$digest" params={{ digest }}>
              {artifactName(parent ?? { digest, names: [] })}
            </Link>
          );
        })}
      </dd>
    </>
  );
}

function LineageSection({ digest, hasParents }: { digest: string; hasParents: boolean }) {
  const lineage = useQuery(lineageQuery(digest));
  return (
    <section className="section" aria-labelledby="lineage">
      <h2 id="lineage">Lineage</h2>
      <QueryState query={lineage} what="The lineage" lines={2} />
      {lineage.data && lineage.data.nodes.length > 1 ? (
        <LineageGraph lineage={lineage.data} current={digest} />
      ) : null}
      {lineage.data && lineage.data.nodes.length <= 1 ? (
        <p className="soft">
          {hasParents
            ? "What it was made from is not on this machine, and nothing was made from it yet."
            : "It was brought in from outside, and nothing was made from it yet."}
        </p>
      ) : null}
    </section>
  );
}

function MetadataSection({ metadata }: { metadata: Record<string, unknown> }) {
  const entries = Object.entries(metadata);
  if (entries.length === 0) return null;
  return (
    <section className="section" aria-labelledby="metadata">
      <h2 id="metadata">Metadata</h2>
      <dl className="facts">
        {entries.map(([key, value]) => (
          <Fact key={key} name={key} value={value} />
        ))}
      </dl>
    </section>
  );
}

function Fact({ name, value }: { name: string; value: unknown }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{typeof value === "string" ? value : <code className="numbers">{JSON.stringify(value)}</code>}</dd>
    </>
  );
}

function FilesSection({ files }: { files: readonly FileEntry[] }) {
  return (
    <section className="section" aria-labelledby="files">
      <h2 id="files">Files</h2>
      <Table columns={["Path", { head: "Size", isRight: true }, { head: "SHA-256", isWide: true }]}>
        {files.map((file) => (
          <tr key={file.path}>
            <td className="mono">{file.path}</td>
            <td className="right numbers soft">{formatSize(file.size)}</td>
            <td className="wide-only">
              <Digest digest={file.sha256} />
            </td>
          </tr>
        ))}
      </Table>
    </section>
  );
}
