/** People and groups, for administrators. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Plus, Trash2 } from "lucide-react";
import { useState } from "react";
import { sendJson } from "../../api/client";
import { groupsQuery, peopleQuery, refreshPeople } from "../../api/identity";
import type { Group, Person } from "../../api/types";
import { counted, matches } from "../../format";
import { Filter } from "../../parts/filter";
import { FormModal } from "../../parts/form-modal";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Sure } from "../../parts/sure";
import { Table } from "../../parts/table";
import { Tags } from "../../parts/tags";
import { TextField } from "../../parts/text-field";
import { notify } from "../../parts/toasts";
import { PersonForm } from "./person";

import "./people.css";

export function PeopleRoom() {
  const { q = "" } = useSearch({ from: "/house/people" });
  const navigate = useNavigate({ from: "/people" });
  const list = useQuery(peopleQuery);
  const all = list.data ?? [];
  const shown = all.filter((each) =>
    matches(q, each.user_id, each.display_name, each.email ?? "", ...each.roles, ...each.groups),
  );
  const [opened, setOpened] = useState<Person | "new" | null>(null);
  return (
    <Room
      title="People"
      tools={
        <>
          <Filter
            label="Filter by name, role or group"
            value={q}
            onChange={(text) => void navigate({ search: { q: text }, replace: true })}
          />
          <button
            type="button"
            className="button primary"
            aria-haspopup="dialog"
            onClick={() => setOpened("new")}
          >
            <Plus size={16} aria-hidden />
            Add somebody
          </button>
        </>
      }
    >
      <QueryState query={list} what="The people" count={shown.length} isFiltered={all.length > 0} />
      {shown.length > 0 ? <PeopleTable people={shown} onOpen={setOpened} /> : null}
      {list.isError ? null : <Groups />}
      {opened ? (
        <PersonForm person={opened === "new" ? null : opened} onClose={() => setOpened(null)} />
      ) : null}
    </Room>
  );
}

function PeopleTable({ people, onOpen }: { people: readonly Person[]; onOpen: (person: Person) => void }) {
  return (
    <Table
      columns={["Name", "Roles", { head: "Groups", isWide: true }, { head: "Signs in with", isWide: true }]}
      className="people-table"
    >
      {people.map((each) => (
        <tr key={each.user_id} className={each.is_disabled ? "spent" : undefined}>
          <td>
            <button type="button" className="row-link" aria-haspopup="dialog" onClick={() => onOpen(each)}>
              {each.display_name || each.user_id}
            </button>
            {each.display_name ? <span className="small soft beside">{each.user_id}</span> : null}
            {each.is_disabled ? <span className="tag beside">disabled</span> : null}
            {each.email ? <span className="small soft block wide-only">{each.email}</span> : null}
          </td>
          <td>
            <Tags names={each.roles} />
          </td>
          <td className="wide-only">
            <Tags names={each.groups} />
          </td>
          <td className="wide-only small soft">
            {each.roles.includes("service") ? "keys alone" : each.has_password ? "password" : "link or key"}
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Groups() {
  const list = useQuery(groupsQuery);
  const [isMaking, setMaking] = useState(false);
  const groups = list.data ?? [];
  return (
    <section className="section" aria-labelledby="groups">
      <div className="section-head">
        <h2 id="groups">Groups</h2>
        <button type="button" className="button" aria-haspopup="dialog" onClick={() => setMaking(true)}>
          <Plus size={16} aria-hidden />
          New group
        </button>
      </div>
      <p className="small soft">
        A document that is open to a group is seen by who is in it. People are put into groups in their own
        entry above.
      </p>
      <QueryState query={list} what="The groups" count={groups.length} lines={2}>
        <p>There is no group yet.</p>
      </QueryState>
      <ul role="list" className="group-list">
        {groups.map((group) => (
          <GroupLine key={group.name} group={group} />
        ))}
      </ul>
      {isMaking ? <NewGroup onClose={() => setMaking(false)} /> : null}
    </section>
  );
}

function GroupLine({ group }: { group: Group }) {
  const [isAsked, setAsked] = useState(false);
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: () => sendJson("DELETE", `/api/groups/${encodeURIComponent(group.name)}`),
    onSuccess: () => {
      notify(`${group.name} is removed`);
      refreshPeople(client);
    },
  });
  return (
    <li className="group-line">
      <span className="group-name">{group.name}</span>
      <span className="small soft group-members">
        {group.description ? `${group.description} · ` : ""}
        {group.members.length > 0 ? group.members.join(", ") : counted(0, "member")}
      </span>
      <button
        type="button"
        className="icon-button tight"
        aria-label={`Remove ${group.name}`}
        title="Remove"
        aria-haspopup="dialog"
        onClick={() => setAsked(true)}
      >
        <Trash2 size={15} aria-hidden />
      </button>
      {isAsked ? (
        <Sure
          title={`Remove ${group.name}`}
          does="Remove it"
          word={group.name}
          order={remove}
          onClose={() => setAsked(false)}
        >
          What is open to this group alone will then be open to nobody but its owner.
        </Sure>
      ) : null}
    </li>
  );
}

function NewGroup({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const client = useQueryClient();
  const make = useMutation({
    mutationFn: () => sendJson<Group>("POST", "/api/groups", { name: name.trim(), description }),
    onSuccess: () => {
      refreshPeople(client);
      onClose();
    },
  });
  return (
    <FormModal
      title="New group"
      does="Make it"
      order={make}
      failed="Not made"
      onClose={onClose}
      isReady={name.trim() !== ""}
    >
      <TextField
        label="Name"
        placeholder="Letters, digits and . _ @ + -"
        maxLength={100}
        value={name}
        onChange={setName}
      />
      <TextField label="What it is for" maxLength={200} value={description} onChange={setDescription} />
    </FormModal>
  );
}
