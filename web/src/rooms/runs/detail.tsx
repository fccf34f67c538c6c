/** One run: how far it is, its loss, its stages, what it was given and what it made. */
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { runQuery } from "../../api/queries";
import type { RunDetail } from "../../api/types";
import { formatMoment, shortDigest } from "../../format";
import { QueryState } from "../../parts/query-state";
import { Back } from "../../parts/room";
import { Table } from "../../parts/table";
import { useTitle } from "../../parts/title";
import { LossCurve } from "./loss-curve";
import "./runs.css";
import { type StageRow, stagesOf } from "./stages";
import { Elapsed, runName, Status, Unchanged } from "./status";

export function RunRoom() {
  const { runId } = useParams({ from: "/house/runs/$runId" });
  const run = useQuery(runQuery(runId));
  useTitle(run.data ? `${runName(run.data)}, run` : "Runs");
  return (
    <div className="room">
      {run.data?.parent_id ? (
        <Back to="/runs/$runId" params={{ runId: run.data.parent_id }}>
          The build
        </Back>
      ) : (
        <Back to="/runs">Runs</Back>
      )}
      <QueryState query={run} what="The run" lines={10} />
      {run.data ? <Detail run={run.data} /> : null}
    </div>
  );
}

function Detail({ run }: { run: RunDetail }) {
  const stages = stagesOf(run);
  return (
    <>
      <div className="room-head">
        <h1>{runName(run)}</h1>
        <Status status={run.status} />
      </div>
      {run.error ? (
        <div className="problem" role="alert">
          <pre className="run-error">{run.error}</pre>
        </div>
      ) : null}
      <dl className="facts run-facts">
        <dt>Run</dt>
        <dd className="mono">{run.run_id}</dd>
        <dt>Recipe</dt>
        <dd>{run.recipe || <span className="faint">none</span>}</dd>
        <dt>Started</dt>
        <dd>{formatMoment(run.started_at)}</dd>
        <dt>{run.status === "running" ? "Running for" : "Took"}</dt>
        <dd className="numbers">
          <Elapsed run={run} />
        </dd>
        <dt>Made</dt>
        <dd>
          {run.output ? <ArtifactLink digest={run.output} /> : <span className="faint">nothing yet</span>}
        </dd>
      </dl>
      <div className="curves">
        <LossCurve key={run.run_id} runId={run.run_id} title="Loss" isLive={run.status === "running"} />
        {stages.map(({ run: stage }) => (
          <LossCurve
            key={stage.run_id}
            runId={stage.run_id}
            title={`Loss of ${runName(stage)}`}
            isLive={stage.status === "running"}
          />
        ))}
      </div>
      {stages.length > 0 ? <Stages stages={stages} /> : null}
      {run.inputs.length > 0 ? (
        <section className="section" aria-labelledby="inputs">
          <h2 id="inputs">Made from</h2>
          <ul className="inputs" role="list">
            {run.inputs.map((digest) => (
              <li key={digest}>
                <ArtifactLink digest={digest} />
              </li>
            ))}
          </ul>
        </section>
      ) : null}
      {Object.keys(run.config).length > 0 ? (
        <section className="section" aria-labelledby="config">
          <h2 id="config">Config</h2>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
          <pre className="json" tabIndex={0}>
            {JSON.stringify(run.config, null, 2)}
          </pre>
        </section>
      ) : null}
    </>
  );
}

function ArtifactLink({ digest }: { digest: string }) {
  return (
    <Link to="/models/$digest" params={{ digest }} className="mono">
      {shortDigest(digest)}
    </Link>
  );
}

function Stages({ stages }: { stages: readonly StageRow[] }) {
  return (
    <section className="section" aria-labelledby="stages">
      <h2 id="stages">Stages</h2>
      <Table columns={["Stage", "Status", { head: "Took", isRight: true }, "Made"]}>
        {stages.map(({ run: stage, isUnchanged }) => (
          <tr key={stage.run_id}>
            <td>
              <Link to="/runs/$runId" params={{ runId: stage.run_id }} className="row-link">
                {runName(stage)}
              </Link>
            </td>
            <td>{isUnchanged ? <Unchanged /> : <Status status={stage.status} />}</td>
            <td className="right numbers soft">
              <Elapsed run={stage} />
            </td>
            <td className="above-cell">{stage.output ? <ArtifactLink digest={stage.output} /> : null}</td>
          </tr>
        ))}
      </Table>
    </section>
  );
}
