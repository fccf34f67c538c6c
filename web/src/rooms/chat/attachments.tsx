/** Files beside a message: those that are about to be sent, and those that were. */
import { Link } from "@tanstack/react-router";
import { FileText, Paperclip, X } from "lucide-react";
import { useRef } from "react";
import { ApiError, told } from "../../api/client";
import type { Attachment } from "../../api/types";
import { counted, formatSize } from "../../format";
import { attaching, useAttached } from "./attaching";
import "./attachments.css";

interface AttachedListProps {
  conversationId: string | null;
}

/** What will go with the next message. */
export function AttachedList({ conversationId }: AttachedListProps) {
  const list = useAttached(conversationId);
  if (list.length === 0) return null;
  return (
    <ul role="list" className="attached" aria-label="Attached files">
      {list.map((item) => (
        <li key={item.key} className="attached-item" data-refused={item.error ? true : undefined}>
          <FileText size={15} aria-hidden />
          <span className="clip">{item.name}</span>
          {item.entry ? (
            <span className="faint">{facts(item.entry)}</span>
          ) : item.error ? null : (
            <span className="faint" role="status">
              is being read
            </span>
          )}
          <button
            type="button"
            className="icon-button tight"
            aria-label={`Remove ${item.name}`}
            onClick={() => attaching.remove(conversationId, item)}
          >
            <X size={14} aria-hidden />
          </button>
          {item.error ? (
            <p role="alert">
              {told(item.error)}{" "}
              {item.error instanceof ApiError && item.error.code === "context_length_exceeded" ? (
                <Link to="/knowledge">Go to the collections</Link>
              ) : null}
            </p>
          ) : null}
        </li>
      ))}
    </ul>
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
