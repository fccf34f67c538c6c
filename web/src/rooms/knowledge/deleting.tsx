/** Deleting what cannot be brought back: asked for by name. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { sendJson } from "../../api/client";
import { COLLECTION_KEYS } from "../../api/knowledge";
import { Modal } from "../../parts/modal";
import { Problem } from "../../parts/problem";
import { notify } from "../../parts/toasts";

interface DeletingProps {
  name: string;
  /** What goes with it. */
  what: string;
  path: string;
  /** Whether its name has to be typed. */
  byName?: boolean;
  onClose: () => void;
  onDone?: () => void;
}

export function Deleting({ name, what, path, byName = false, onClose, onDone }: DeletingProps) {
  const [typed, setTyped] = useState("");
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: () => sendJson("DELETE", path),
    onSuccess: () => {
      onClose();
      onDone?.();
      notify(`${name} is deleted`);
      for (const key of COLLECTION_KEYS) void client.invalidateQueries({ queryKey: [key] });
    },
  });
  const canDelete = !byName || typed.trim() === name;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (canDelete) remove.mutate();
  };
  return (
    <Modal title={`Delete ${name}?`} onClose={onClose}>
      <form className="modal-form" onSubmit={submit}>
        <p>{what} This cannot be undone.</p>
        {byName ? (
          <div>
            <label className="label" htmlFor="delete-name">
              To go on, write its name: {name}
            </label>
            <input
              id="delete-name"
              className="field"
              autoComplete="off"
              value={typed}
              onChange={(event) => setTyped(event.target.value)}
            />
          </div>
        ) : null}
        {remove.isError ? <Problem error={remove.error} what="Not deleted" /> : null}
        <div className="modal-buttons">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button danger" disabled={!canDelete || remove.isPending}>
            Delete
          </button>
        </div>
      </form>
    </Modal>
  );
}
