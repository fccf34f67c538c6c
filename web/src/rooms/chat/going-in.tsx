/** A file on its way into a collection, beside the message box; once it is in, the chat asks that collection. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Library, RotateCcw, X } from "lucide-react";
import { useEffect, useSyncExternalStore } from "react";
import { COLLECTION_KEYS, uploadsQuery } from "../../api/knowledge";
import type { Collection, UploadEntry } from "../../api/types";
import { notify } from "../../parts/toasts";
import { progressOf, type Sending, uploads } from "../knowledge/uploads";
import type { Attached } from "./attaching";

interface GoingInProps {
  item: Attached;
  collection: Pick<Collection, "ref" | "name">;
  onRemove: () => void;
  onKnowledge: (ref: string) => void;
}

export function GoingIn({ item, collection, onRemove, onKnowledge }: GoingInProps) {
  const client = useQueryClient();
  const sending = useSyncExternalStore(uploads.subscribe, uploads.all).find(
    (each) => each.collection === collection.ref && each.name === item.name,
  );
  const sent = useQuery(uploadsQuery(collection.ref)).data?.findLast(
    (each) => each.source === item.name && uploads.isOurs(each.upload_id),
  );
  const isIn = !sending && sent?.state === "done" && sent.status !== "unreadable";
  useEffect(() => {
    if (!isIn) return;
    for (const key of COLLECTION_KEYS) void client.invalidateQueries({ queryKey: [key] });
    onKnowledge(collection.ref);
    notify(`${item.name} is in ${collection.name}. Replies come from it now.`);
    onRemove();
  });
  const { isBad, text } = told(sending, sent);
  return (
    <li className="attached-item" data-refused={isBad || undefined}>
      <Library size={15} aria-hidden />
      <span className="clip">{item.name}</span>
      <span className="faint">into {collection.name}:</span>
      <span className={isBad ? "" : "faint"} role="status">
        {text}
      </span>
      {isBad ? null : <progress aria-label={`Putting ${item.name} into ${collection.name}`} />}
      {sending?.phase === "failed" ? (
        <button
          type="button"
          className="icon-button tight"
          aria-label={`Send ${item.name} again`}
          title="Send again"
          onClick={() => uploads.retry(client, sending.id)}
        >
          <RotateCcw size={14} aria-hidden />
        </button>
      ) : null}
      <button
        type="button"
        className="icon-button tight"
        aria-label={sending ? `Do not send ${item.name}` : `Do not wait for ${item.name}`}
        title={sending ? "Do not send" : "Do not wait: it goes in all the same"}
        onClick={() => {
          if (sending) uploads.cancel(sending.id);
          onRemove();
        }}
      >
        <X size={14} aria-hidden />
      </button>
    </li>
  );
}

function told(sending: Sending | undefined, sent: UploadEntry | undefined) {
  if (sending?.phase === "failed") return { isBad: true, text: sending.problem };
  if (sending || !sent) return { isBad: false, text: "is being sent" };
  return { isBad: sent.state === "failed" || sent.status === "unreadable", text: progressOf(sent) };
}
