/** Files beside a message: those that are about to be sent, and those that were. */
import { FileText, Library, Paperclip, X } from "lucide-react";
import { lazy, Suspense, useRef, useState } from "react";
import { told } from "../../api/client";
import { useMay } from "../../api/identity";
import type { Attachment } from "../../api/types";
import { counted, formatSize } from "../../format";
import { type Attached, attaching, isBeingRead, useAttached } from "./attaching";
import { GoingIn } from "./going-in";
import "./attachments.css";

const IntoCollection = lazy(() => import("./into-collection"));

interface AttachedListProps {
  conversationId: string | null;
  /** From now on replies come from this collection. */
  onKnowledge: (ref: string) => void;
}

/** What will go with the next message, and what goes into a collection because it is too long for that. */
export function AttachedList({ conversationId, onKnowledge }: AttachedListProps) {
  const mayPutIn = useMay()("manage_knowledge");
  const [redirected, setRedirected] = useState<Attached | null>(null);
  const list = useAttached(conversationId);
  if (list.length === 0) return null;
  return (
    <>
      <ul role="list" className="attached" aria-label="Attached files">
        {list.map((item) =>
          item.collection ? (
            <GoingIn
              key={item.key}
              item={item}
              collection={item.collection}
              onRemove={() => attaching.remove(conversationId, item)}
              onKnowledge={onKnowledge}
            />
          ) : (
            <li key={item.key} className="attached-item" data-refused={item.error ? true : undefined}>
              <FileText size={15} aria-hidden />
              <span className="clip">{item.name}</span>
              {item.entry ? <span className="faint">{facts(item.entry)}</span> : null}
              {isBeingRead(item) ? (
                <span className="faint" role="status">
                  is being read
                </span>
              ) : null}
              <button
                type="button"
                className="icon-button tight"
                aria-label={`Remove ${item.name}`}
                onClick={() => attaching.remove(conversationId, item)}
              >
                <X size={14} aria-hidden />
              </button>
              {item.error ? <p role="alert">{told(item.error)}</p> : null}
              {item.file && mayPutIn ? (
                <button
                  type="button"
                  className="button"
                  aria-haspopup="dialog"
                  onClick={() => setRedirected(item)}
                >
                  <Library size={15} aria-hidden />
                  Put it into a collection instead
                </button>
              ) : null}
            </li>
          ),
        )}
      </ul>
      {redirected?.file ? (
        <Suspense>
          <IntoCollection
            name={redirected.name}
            file={redirected.file}
            onClose={() => setRedirected(null)}
            onSent={(collection) => {
              setRedirected(null);
              attaching.redirect(conversationId, redirected, collection);
              // The button that opened the dialog is gone.
              requestAnimationFrame(() => document.getElementById("composer")?.focus());
            }}
          />
        </Suspense>
      ) : null}
    </>
  );
}

/** The paperclip. */
export function AttachButton({ onFiles }: { onFiles: (files: readonly File[]) => void }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button
        type="button"
        className="icon-button tight"
        aria-label="Attach files"
        title="Attach files: their text goes with the message"
        onClick={() => input.current?.click()}
      >
        <Paperclip size={15} aria-hidden />
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        aria-label="Files to attach"
        onChange={(event) => {
          onFiles([...(event.target.files ?? [])]);
          event.target.value = "";
        }}
      />
    </>
  );
}

/** What stands beside a message that was sent. */
export function AttachmentChips({ entries }: { entries: readonly Attachment[] }) {
  if (entries.length === 0) return null;
  return (
    <ul role="list" className="attached" aria-label="Files of the message">
      {entries.map((entry) => (
        <li key={entry.id} className="attached-item">
          <FileText size={15} aria-hidden />
          <span className="clip">{entry.filename}</span>
          <span className="faint">{facts(entry)}</span>
        </li>
      ))}
    </ul>
  );
}

function facts({ size, num_pages, num_skipped, num_tokens }: Attachment): string {
  const parts = [formatSize(size), counted(num_pages, "page"), counted(num_tokens, "token")];
  if (num_skipped > 0) parts.push(`${counted(num_skipped, "page")} not read`);
  return parts.join(", ");
}
