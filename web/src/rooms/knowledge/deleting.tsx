/** Deleting what cannot be brought back: asked for by name. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { sendJson } from "../../api/client";
import { COLLECTION_KEYS } from "../../api/knowledge";
import { Sure } from "../../parts/sure";
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
  return (
    <Sure
      title={`Delete ${name}?`}
      does="Delete"
      word={byName ? name : ""}
      order={remove}
      failed="Not deleted"
      isDanger
      onClose={onClose}
    >
      {what} This cannot be undone.
    </Sure>
  );
}
