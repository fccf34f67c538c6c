/** The server's settings that are in force, and where each comes from; for whoever runs it. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { settingsQuery } from "../../api/identity";
import type { Setting } from "../../api/types";
import { matches } from "../../format";
import { Choice, Filter } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { Table } from "../../parts/table";

const WHICH = [
  ["", "All"],
  ["changed", "Not the default"],
] as const;

export function InForce() {
  const found = useQuery(settingsQuery);
  const [text, setText] = useState("");
  const [which, setWhich] = useState("");
  const all = found.data ?? [];
  const shown = all
    .filter(({ source }) => which === "" || source !== "default")
    .filter(({ name, value, source, description }) => matches(text, name, value, source, description));
  return (
    <section className="section" aria-labelledby="in-force">
      <div className="room-head">
        <h2 id="in-force">In force on this server</h2>
        <div className="room-tools">
          <Filter label="Filter by name, value or meaning" value={text} onChange={setText} />
          <Choice label="Which settings" value={which} onChange={setWhich} options={WHICH} />
        </div>
      </div>
      <p className="small soft">
        They are read at the start: from the options of <code>cairn up</code>, the files these name, and the
        environment.
      </p>
      <QueryState
        query={found}
        what="The settings"
        lines={8}
        count={shown.length}
        isFiltered={all.length > 0}
      />
      {shown.length > 0 ? (
        <Table columns={["Setting", "Value", { head: "From", isWide: true }]} className="in-force">
          {shown.map((each) => (
            <Row key={each.name} setting={each} />
          ))}
        </Table>
      ) : null}
    </section>
  );
}

function Row({ setting: { name, value, default: usual, source, description } }: { setting: Setting }) {
  const isGiven = source !== "default";
  return (
    <tr>
      <td>
        <code>{name}</code>
        <span className="small soft block">{description}</span>
      </td>
      <td className="in-force-value">
        <code>{plain(value)}</code>
        {isGiven ? <span className="small soft block">default: {plain(usual)}</span> : null}
        {isGiven ? <span className="tag accent narrow-only">{source}</span> : null}
      </td>
      <td className="wide-only">{isGiven ? <span className="tag accent">{source}</span> : "default"}</td>
    </tr>
  );
}

/** JSON as people write it: no quotes around a text, a word for nothing. */
function plain(json: string): string {
  if (json === "null" || json === '""' || json === "[]" || json === "{}") return "none";
  return /^"[^"\\]*"$/.test(json) ? json.slice(1, -1) : json;
}
