/** Routes: who answers to which name, how each is doing, a canary's share, and the file itself. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { sendJson, told } from "../../api/client";
import { useMay } from "../../api/identity";
import { routesQuery } from "../../api/routes";
import type { Route, Routes, RouteTarget } from "../../api/types";
import { formatWhen } from "../../format";
import { AuditLink } from "../../parts/audit-link";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Table } from "../../parts/table";
import { notify } from "../../parts/toasts";
import { Editor } from "./editor";

import "./routes.css";

export function RoutesRoom() {
  const found = useQuery(routesQuery);
  const mayWrite = useMay()("manage_server");
  const routes = found.data?.routes ?? [];
  return (
    <Room title="Routes">
      <QueryState query={found} what="The routes" count={routes.length} isFiltered={false}>
        <p>There is no route yet: every name is a model of this server.</p>
        <p>
          A route lets several targets answer to one name, with fallbacks, shares and a canary. Write it
          below.
        </p>
      </QueryState>
      {routes.map((route) => (
        <RouteSection key={route.name} route={route} />
      ))}
      {found.data ? (
        <section className="section" aria-labelledby="routes-file">
          <h2 id="routes-file">The file</h2>
          <p className="small soft clip">{found.data.path}</p>
          <AuditLink only={{ action: "route.*" }} label="Who changed the routes" isText />
          <Editor routes={found.data} mayWrite={mayWrite} />
        </section>
      ) : null}
    </Room>
  );
}

function RouteSection({ route }: { route: Route }) {
  const how = [
    route.strategy.replace("_", " "),
    route.affinity ? "conversations stay" : "",
    route.cascade ? `cheap first, by ${route.cascade}` : "",
    route.shadow_percent === null ? "" : `${route.shadow_percent} % copied`,
  ].filter(Boolean);
  return (
    <section className="section" aria-label={route.name}>
      <div className="route-head">
        <h2>{route.name}</h2>
        <span className="small soft">{how.join(", ")}</span>
        {route.canary_percent === null ? null : (
          <AuditLink only={{ subject: route.name }} label={`Who moved the canary of ${route.name}`} />
        )}
      </div>
      <Table
        columns={[
          "Target",
          "Health",
          { head: "Under way", isRight: true, isWide: true },
          { head: "Requests", isRight: true, isWide: true },
          { head: "Errors", isRight: true },
          { head: "p50", isRight: true, isWide: true },
          { head: "p99", isRight: true, isWide: true },
        ]}
      >
        {route.targets.map((target) => (
          <TargetRow key={`${target.role} ${target.name}`} target={target} />
        ))}
      </Table>
      {route.canary_percent === null ? null : (
        <Canary key={route.canary_percent} route={route.name} percent={route.canary_percent} />
      )}
    </section>
  );
}

function TargetRow({ target }: { target: RouteTarget }) {
  const { health, isWell } = healthOf(target);
  const isFailing = target.error_rate !== null && target.error_rate > 0;
  return (
    <tr>
      <td>
        <span className="target-name">{target.name}</span>
        {target.role === "target" ? null : <span className="tag">{target.role}</span>}
        {target.last_error && target.last_error_at ? (
          <span className="small soft target-error">
            {formatWhen(target.last_error_at)}: {target.last_error}
          </span>
        ) : null}
      </td>
      <td>
        <span className="health" data-well={isWell}>
          {health}
        </span>
      </td>
      <td className="right numbers wide-only">{target.outstanding}</td>
      <td className="right numbers wide-only">{target.num_requests}</td>
      <td className={`right numbers${isFailing ? " failing" : ""}`}>
        {target.error_rate === null ? "–" : `${Math.round(100 * target.error_rate)} %`}
      </td>
      <td className="right numbers wide-only">{milliseconds(target.p50_seconds)}</td>
      <td className="right numbers wide-only">{milliseconds(target.p99_seconds)}</td>
    </tr>
  );
}

function healthOf({ state, wait_seconds: wait, error_rate: errors }: RouteTarget): {
  health: string;
  isWell: boolean;
} {
  const seconds = `${Math.ceil(wait)} s`;
  if (state === "half_open") return { health: "being tried", isWell: false };
  if (state === "open") return { health: `left alone, ${seconds}`, isWell: false };
  if (wait === 0 && errors !== null && errors >= 0.5) return { health: "failing", isWell: false };
  return wait > 0 ? { health: `resting, ${seconds}`, isWell: false } : { health: "well", isWell: true };
}

function milliseconds(seconds: number | null): string {
  return seconds === null ? "–" : `${Math.round(1000 * seconds)} ms`;
}

/** The share of users; sent when the slider is let go. */
function Canary({ route, percent }: { route: string; percent: number }) {
  const [chosen, setChosen] = useState(percent);
  const sent = useRef(percent);
  const client = useQueryClient();
  const change = useMutation({
    mutationFn: (value: number) =>
      sendJson<Routes>("PUT", `/api/routes/${encodeURIComponent(route)}/canary`, { percent: value }),
    onSuccess: (routes, value) => {
      client.setQueryData(routesQuery.queryKey, routes);
      notify(`${value} % of users get the canary of ${route}`);
    },
    onError: (error) => {
      sent.current = percent;
      setChosen(percent);
      notify(told(error));
    },
  });
  const send = () => {
    if (chosen === sent.current) return; // letting go, and leaving the slider, are two events
    sent.current = chosen;
    change.mutate(chosen);
  };
  return (
    <label className="canary">
      <span>Canary</span>
      <input
        type="range"
        min={0}
        max={100}
        step={1}
        value={chosen}
        disabled={change.isPending}
        onChange={(event) => setChosen(Number(event.target.value))}
        onPointerUp={send}
        onKeyUp={send}
        onBlur={send}
      />
      <output className="numbers">{chosen} % of users</output>
    </label>
  );
}
