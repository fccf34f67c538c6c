/** Who may see what: labels shown, and changed. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { X } from "lucide-react";
import { type FormEvent, useState } from "react";
import { sendJson } from "../../api/client";
import { COLLECTION_KEYS } from "../../api/knowledge";
import { sessionQuery } from "../../api/queries";
import { Choice } from "../../parts/filter";
import { ModalButtons } from "../../parts/form-modal";
import { Modal } from "../../parts/modal";
import { Problem } from "../../parts/problem";
import { notify } from "../../parts/toasts";

const KINDS = [
  ["user", "User"],
  ["group", "Group"],
  ["everyone", "Everyone"],
] as const;

/** `user:ann` as `ann`, `group:finance` as `finance (group)`. */
export function labelText(label: string): string {
  const [kind, ...rest] = label.split(":");
  const name = rest.join(":");
  return kind === "group" ? `${name} (group)` : kind === "user" ? name : label;
}

export function LabelTags({ labels, isOwn }: { labels: readonly string[]; isOwn: boolean }) {
  if (labels.length === 0) return <span className="faint small">{isOwn ? "nobody" : "some of it"}</span>;
  return (
    <span className="labels">
      {labels.map((label) => (
        <span key={label} className="tag" title={label}>
          {labelText(label)}
        </span>
      ))}
    </span>
  );
}

interface AccessEditorProps {
  /** What it is about, as in "Who may see notes.md". */
  name: string;
  labels: readonly string[];
  /** Where the change is sent. */
  path: string;
  /** Of a collection: the labels may be given to what is there already. */
  isCollection?: boolean;
  onClose: () => void;
}

export function AccessEditor({ name, labels, path, isCollection = false, onClose }: AccessEditorProps) {
  const [chosen, setChosen] = useState<readonly string[]>(labels);
  const [forDocuments, setForDocuments] = useState(false);
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: () =>
      sendJson("PATCH", path, {
        labels: chosen,
        ...(isCollection ? { for_documents: forDocuments } : {}),
      }),
    onSuccess: () => {
      for (const key of COLLECTION_KEYS) void client.invalidateQueries({ queryKey: [key] });
      notify(`Who may see ${name} is changed`);
      onClose();
    },
  });
  return (
    <Modal title={`Who may see ${name}`} onClose={onClose}>
      <div className="modal-form">
        {isCollection ? (
          <p className="small soft">Holds for documents that are put in from now on and say nothing else.</p>
        ) : null}
        <ul role="list" className="label-list" aria-label="May see it">
          {chosen.map((label) => (
            <li key={label} className="label-row">
              <span>{labelText(label)}</span>
              <button
                type="button"
                className="icon-button tight"
                aria-label={`Take ${labelText(label)} out`}
                onClick={() => setChosen(chosen.filter((each) => each !== label))}
              >
                <X size={14} aria-hidden />
              </button>
            </li>
          ))}
          {chosen.length === 0 ? <li className="small warning">Nobody will be able to read it.</li> : null}
        </ul>
        <AddLabel onAdd={(label) => setChosen([...chosen.filter((each) => each !== label), label].sort())} />
        <OwnNote labels={chosen} />
        {isCollection ? (
          <label className="check">
            <input
              type="checkbox"
              checked={forDocuments}
              onChange={(event) => setForDocuments(event.target.checked)}
            />
            Also for every document that is in it now
          </label>
        ) : null}
        {save.isError ? <Problem error={save.error} what="Not changed" /> : null}
        <ModalButtons does="Save" isReady={!save.isPending} onDo={() => save.mutate()} onClose={onClose} />
      </div>
    </Modal>
  );
}

/** Who looks after documents without being allowed to read them should know it. */
function OwnNote({ labels }: { labels: readonly string[] }) {
  const user = useQuery(sessionQuery).data?.user_id;
  const isOpen = labels.includes("everyone") || labels.includes(`user:${user}`);
  if (isOpen || labels.length === 0 || labels.some((label) => label.startsWith("group:"))) return null;
  return <p className="small warning">You will not be able to read it yourself.</p>;
}

function AddLabel({ onAdd }: { onAdd: (label: string) => void }) {
  const [kind, setKind] = useState<string>("user");
  const [name, setName] = useState("");
  const label = kind === "everyone" ? kind : `${kind}:${name.trim()}`;
  const canAdd = kind === "everyone" || name.trim() !== "";
  const add = (event: FormEvent) => {
    event.preventDefault();
    if (!canAdd) return;
    onAdd(label);
    setName("");
  };
  return (
    <form className="add-label" onSubmit={add}>
      <Choice label="Kind" value={kind} onChange={setKind} options={KINDS} />
      {kind === "everyone" ? (
        <span className="small soft">who signs in here</span>
      ) : (
        <input
          className="field"
          aria-label={kind === "user" ? "Name of the user" : "Name of the group"}
          placeholder="Name"
          maxLength={190}
          value={name}
          onChange={(event) => setName(event.target.value)}
        />
      )}
      <button type="submit" className="button" disabled={!canAdd}>
        Add
      </button>
    </form>
  );
}
