/** Keys: one's own, and for administrators everybody's. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Ban, Plus, RefreshCw } from "lucide-react";
import { useState } from "react";
import { sendJson } from "../../api/client";
import { issuedKeysQuery, ownKeysQuery, useMay } from "../../api/identity";
import type { Key, MadeKey } from "../../api/types";
import { formatMoment, formatWhen, matches } from "../../format";
import { AuditLink } from "../../parts/audit-link";
import { Choice, Filter } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Sure } from "../../parts/sure";
import { Table } from "../../parts/table";
import { notify } from "../../parts/toasts";
import { MadeKeyNote, NewKeyForm } from "./new-key";

import "./people.css";

const WHOSE = [
  ["", "Your keys"],
  ["all", "Everybody’s keys"],
] as const;

export function KeysRoom() {
  const { q = "", whose = "" } = useSearch({ from: "/house/keys" });
  const navigate = useNavigate({ from: "/keys" });
  const isAdministrator = useMay()("manage_keys");
  const isAll = isAdministrator && whose === "all";
  const list = useQuery(isAll ? issuedKeysQuery : ownKeysQuery);
  const all = list.data ?? [];
  const shown = all.filter((key) => matches(q, key.name, key.key_id, key.user_id, key.state)).reverse();
  const [isMaking, setMaking] = useState(false);
  const [made, setMade] = useState<MadeKey | null>(null);

  return (
    <Room
      title="Keys"
      tools={
        <>
          {isAdministrator ? (
            <Choice
              label="Whose keys"
              value={whose}
              onChange={(value) => void navigate({ search: { q, whose: value }, replace: true })}
              options={WHOSE}
            />
          ) : null}
          <Filter
            label="Filter by name, id or user"
            value={q}
            onChange={(text) => void navigate({ search: { q: text, whose }, replace: true })}
          />
          <button
            type="button"
            className="button primary"
            aria-haspopup="dialog"
            onClick={() => setMaking(true)}
          >
            <Plus size={16} aria-hidden />
            New key
          </button>
        </>
      }
    >
      {made ? <MadeKeyNote made={made} onClose={() => setMade(null)} /> : null}
      <QueryState query={list} what="The keys" count={shown.length} isFiltered={all.length > 0}>
        <p>There is no key yet.</p>
        <p>A program that asks this server needs one. Make it, and put it where an OpenAI key would stand.</p>
      </QueryState>
      {shown.length > 0 ? <KeyTable keys={shown} isAll={isAll} onMade={setMade} /> : null}
      {isMaking ? <NewKeyForm isAll={isAll} onMade={setMade} onClose={() => setMaking(false)} /> : null}
    </Room>
  );
}

interface KeyTableProps {
  keys: readonly Key[];
  isAll: boolean;
  onMade: (made: MadeKey) => void;
}

function KeyTable({ keys, isAll, onMade }: KeyTableProps) {
  return (
    <Table
      columns={[
        "Key",
        ...(isAll ? ["User"] : []),
        { head: "May", isWide: true },
        { head: "Last used", isRight: true, isWide: true },
        { head: "Expires", isRight: true },
        { head: <span className="hidden-visually">Actions</span> },
      ]}
      className="people-table"
    >
      {keys.map((key) => (
        <KeyRow key={key.key_id} found={key} isAll={isAll} onMade={onMade} />
      ))}
    </Table>
  );
}

function KeyRow({ found, isAll, onMade }: { found: Key; isAll: boolean; onMade: (made: MadeKey) => void }) {
  const [asked, setAsked] = useState<"rotate" | "revoke" | null>(null);
  const client = useQueryClient();
  const path = `/api/${isAll ? "issued-keys" : "keys"}/${found.key_id}`;
  const title = found.name || found.key_id;
  const refresh = () => void client.invalidateQueries({ queryKey: ["keys"] });
  const rotate = useMutation({
    mutationFn: () => sendJson<MadeKey>("POST", `${path}/rotate`, {}),
    onSuccess: (made) => {
      onMade(made);
      setAsked(null);
      refresh();
    },
  });
  const revoke = useMutation({
    mutationFn: () => sendJson("DELETE", path),
    onSuccess: () => {
      notify(`${title} is revoked`);
      setAsked(null);
      refresh();
    },
  });
  const isGood = found.state === "active";
  return (
    <tr className={isGood ? undefined : "spent"}>
      <td>
        {found.name ? <span className="key-name">{found.name}</span> : null}{" "}
        <code className="small soft">{found.key_id}</code>
        {isGood ? null : <span className="tag beside">{found.state}</span>}
        {found.old_until ? (
          <span className="small soft block">old secret good until {formatMoment(found.old_until)}</span>
        ) : null}
      </td>
      {isAll ? <td>{found.user_id}</td> : null}
      <td className="wide-only small soft">
        {found.scopes ? found.scopes.join(", ").replaceAll("_", " ") : "all that its owner may"}
        {found.models ? <span className="block">models: {found.models.join(", ")}</span> : null}
      </td>
      <td className="right numbers soft wide-only">
        {found.last_used_at ? formatWhen(found.last_used_at) : "never"}
      </td>
      <td className="right numbers soft">{found.expires_at ? formatWhen(found.expires_at) : "never"}</td>
      <td className="right numbers">
        <AuditLink only={{ subject: found.key_id }} label={`Who changed ${title}`} />
        {isGood ? (
          <>
            <button
              type="button"
              className="icon-button tight"
              aria-label={`Rotate ${title}`}
              title="Rotate: a new secret"
              aria-haspopup="dialog"
              onClick={() => setAsked("rotate")}
            >
              <RefreshCw size={15} aria-hidden />
            </button>
            <button
              type="button"
              className="icon-button tight"
              aria-label={`Revoke ${title}`}
              title="Revoke"
              aria-haspopup="dialog"
              onClick={() => setAsked("revoke")}
            >
              <Ban size={15} aria-hidden />
            </button>
          </>
        ) : null}
        {asked === "rotate" ? (
          <Sure
            title={`Rotate ${title}`}
            does="Make a new secret"
            order={rotate}
            onClose={() => setAsked(null)}
          >
            The key gets a new secret, which is shown once. The old one stays good for a day, so that programs
            can follow.
          </Sure>
        ) : null}
        {asked === "revoke" ? (
          <Sure
            title={`Revoke ${title}`}
            does="Revoke it"
            word={title}
            order={revoke}
            onClose={() => setAsked(null)}
          >
            Programs that use this key are refused from now on. That cannot be undone.
          </Sure>
        ) : null}
      </td>
    </tr>
  );
}
