/** Somebody's account: added, or changed. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { sendJson } from "../../api/client";
import { groupsQuery, refreshPeople } from "../../api/identity";
import type { Person } from "../../api/types";
import { AuditLink } from "../../parts/audit-link";
import { FormModal } from "../../parts/form-modal";
import { Problem } from "../../parts/problem";
import { TextField } from "../../parts/text-field";
import { notify } from "../../parts/toasts";
import { Boxes } from "./new-key";

const ROLES = [
  ["admin", "admin: everything"],
  ["builder", "builder: also models, adapters and routes"],
  ["member", "member: chat, documents, keys of their own"],
  ["viewer", "viewer: look only"],
  ["service", "service: a program, with keys and no password"],
] as const;

interface PersonFormProps {
  /** Null: somebody new. */
  person: Person | null;
  onClose: () => void;
}

interface Entry {
  user_id: string;
  display_name: string;
  email: string;
  roles: readonly string[];
  groups: readonly string[];
  password: string;
}

export function PersonForm({ person, onClose }: PersonFormProps) {
  const [entry, setEntry] = useState<Entry>({
    user_id: person?.user_id ?? "",
    display_name: person?.display_name ?? "",
    email: person?.email ?? "",
    roles: person?.roles ?? ["member"],
    groups: person?.groups ?? [],
    password: "",
  });
  const groups = useQuery(groupsQuery).data ?? [];
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: () => saved(person, entry),
    onSuccess: () => {
      notify(person ? `${entry.user_id} is changed` : `${entry.user_id} is added`);
      onClose();
    },
    onSettled: () => refreshPeople(client),
  });
  const set = (change: Partial<Entry>) => setEntry({ ...entry, ...change });
  const isService = entry.roles.includes("service");
  return (
    <FormModal
      title={person ? person.user_id : "Add somebody"}
      does={person ? "Save" : "Add"}
      order={save}
      failed="Not saved"
      onClose={onClose}
      isReady={entry.user_id.trim() !== "" && entry.roles.length !== 0}
      first={person ? <Disabling person={person} onClose={onClose} /> : null}
    >
      {person ? null : (
        <TextField
          label="User name"
          placeholder="Letters, digits and . _ @ + -"
          value={entry.user_id}
          onChange={(user_id) => set({ user_id })}
        />
      )}
      <div className="key-choices">
        <TextField
          label="Name that is shown"
          value={entry.display_name}
          onChange={(display_name) => set({ display_name })}
        />
        <TextField label="E-mail address" value={entry.email} onChange={(email) => set({ email })} />
      </div>
      <fieldset className="choices">
        <legend className="label">Roles</legend>
        <Boxes options={ROLES} chosen={entry.roles} onChange={(roles) => set({ roles })} />
      </fieldset>
      {person ? (
        <p className="audit-links">
          <AuditLink only={{ subject: person.user_id }} label="Who changed this account" isText />
          <AuditLink only={{ actor: person.user_id }} label="What they changed" isText />
        </p>
      ) : null}
      {groups.length > 0 ? (
        <fieldset className="choices">
          <legend className="label">Groups</legend>
          <Boxes
            options={groups.map(({ name }) => [name, name] as const)}
            chosen={entry.groups}
            onChange={(chosen) => set({ groups: chosen })}
          />
        </fieldset>
      ) : null}
      {isService ? null : (
        <TextField
          label={
            person?.has_password
              ? "New password; left empty, the old one stays"
              : "Password, if any; without, a link or a key signs in"
          }
          type="password"
          autoComplete="new-password"
          value={entry.password}
          onChange={(password) => set({ password })}
        />
      )}
    </FormModal>
  );
}

/** Disabling is undone by enabling: nothing is lost but the sessions. */
function Disabling({ person, onClose }: { person: Person; onClose: () => void }) {
  const client = useQueryClient();
  const change = useMutation({
    mutationFn: (is_disabled: boolean) => sendJson("PATCH", pathOf(person.user_id), { is_disabled }),
    onSuccess: (_, isDisabled) => {
      notify(
        `${person.user_id} is ${isDisabled ? "disabled" : "enabled"}`,
        isDisabled ? () => change.mutate(false) : undefined,
      );
      onClose();
    },
    onSettled: () => refreshPeople(client),
  });
  return (
    <>
      {change.isError ? <Problem error={change.error} what="Not done" /> : null}
      <button
        type="button"
        className="button first"
        disabled={change.isPending}
        onClick={() => change.mutate(!person.is_disabled)}
      >
        {person.is_disabled ? "Enable" : "Disable"}
      </button>
    </>
  );
}

/** The account first, then what belongs to it: so that a refusal leaves no half of what was refused. */
async function saved(person: Person | null, entry: Entry): Promise<void> {
  const { display_name, email, roles, password } = entry;
  const user = entry.user_id.trim();
  const path = pathOf(user);
  if (person === null) {
    await sendJson("POST", "/api/people", {
      user_id: user,
      display_name,
      roles,
      email: email || null,
      password: password || null,
    });
  } else {
    const isSame = [...roles].sort().join() === [...person.roles].sort().join();
    await sendJson("PATCH", path, { display_name, email, ...(isSame ? {} : { roles }) });
    if (password !== "") await sendJson("PUT", `${path}/password`, { password });
  }
  const before = person?.groups ?? [];
  for (const name of entry.groups) if (!before.includes(name)) await sendJson("PUT", memberPath(name, user));
  for (const name of before)
    if (!entry.groups.includes(name)) await sendJson("DELETE", memberPath(name, user));
}

const pathOf = (user: string) => `/api/people/${encodeURIComponent(user)}`;
const memberPath = (group: string, user: string) =>
  `/api/groups/${encodeURIComponent(group)}/members/${encodeURIComponent(user)}`;
