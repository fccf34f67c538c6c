/** Where files are dropped or chosen, and how far each of them is. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { RotateCcw, Upload, X } from "lucide-react";
import { type DragEvent, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { told } from "../../api/client";
import { COLLECTION_KEYS, collectionsQuery, isUnderWay, uploadsQuery } from "../../api/knowledge";
import type { Collection, UploadEntry } from "../../api/types";
import { counted, formatSize } from "../../format";
import { notify } from "../../parts/toasts";
import { MissingNote } from "./list";

import { droppedFiles, type NamedFile, progressOf, type Sending, uploads } from "./uploads";

export function DropZone({ collection }: { collection: Collection }) {
  const [isOver, setOver] = useState(false);
  const chooser = useRef<HTMLInputElement>(null);
  const client = useQueryClient();
  const missing = useQuery(collectionsQuery).data?.missing;
  const add = (files: readonly NamedFile[]) => {
    if (files.length === 0) notify("There were no files in that.");
    uploads.add(client, collection.ref, files);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    droppedFiles(event.dataTransfer.items).then(add, (error: unknown) => notify(told(error)));
  };
  if (missing) return <MissingNote missing={missing} />;
  return (
    <section aria-label="Put files in">
      {/* biome-ignore lint/a11y/noStaticElementInteractions: dropping is for the pointer; the button inside is for all */}
      <div
        className="drop-zone"
        data-over={isOver || undefined}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={(event) => {
          if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false);
        }}
        onDrop={drop}
      >
        <Upload size={18} aria-hidden />
        <span className="wide-only">Drop files or folders here, or</span>
        <button type="button" className="button" onClick={() => chooser.current?.click()}>
          Choose files
        </button>
        <input
          ref={chooser}
          type="file"
          multiple
          hidden
          aria-label="Files to put in"
          onChange={(event) => {
            add([...(event.target.files ?? [])].map((file) => ({ file, name: file.name })));
            event.target.value = "";
          }}
        />
      </div>
      <UploadList collection={collection} />
    </section>
  );
}

function UploadList({ collection }: { collection: Collection }) {
  const client = useQueryClient();
  const sendings = useSyncExternalStore(uploads.subscribe, uploads.all).filter(
    (each) => each.collection === collection.ref,
  );
  const sent = useQuery(uploadsQuery(collection.ref)).data ?? [];
  const shown = sent.filter((each) => isUnderWay(each) || uploads.isOurs(each.upload_id));
  const numDone = sent.filter((each) => each.state === "done").length;
  useEffect(() => {
    // Whenever one more is done, what is listed and counted has changed.
    if (numDone > 0) for (const key of COLLECTION_KEYS) void client.invalidateQueries({ queryKey: [key] });
  }, [numDone, client]);
  const isSending = sendings.some(({ phase }) => phase !== "failed");
  useStayAsked(isSending);
  const left = sendings.length + shown.filter(isUnderWay).length;
  if (sendings.length + shown.length === 0) return null;
  return (
    <>
      <div className="uploads-head small">
        <span role="status">
          {left > 0 ? `${counted(left, "file")} on the way` : "All files are through"}
        </span>
        {left === 0 ? (
          <button
            type="button"
            className="link-button"
            onClick={() => {
              for (const each of shown) uploads.forget(each.upload_id);
            }}
          >
            Clear
          </button>
        ) : null}
      </div>
      <ul role="list" className="uploads" aria-label="Files on their way">
        {shown.map((each) => (
          <SentRow key={each.upload_id} upload={each} collection={collection.ref} />
        ))}
        {sendings.map((each) => (
          <SendingRow key={each.id} sending={each} />
        ))}
      </ul>
    </>
  );
}

/** A tab that is closed takes along what has not left it. */
function useStayAsked(isSending: boolean): void {
  useEffect(() => {
    if (!isSending) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, [isSending]);
}

function SendingRow({ sending }: { sending: Sending }) {
  const client = useQueryClient();
  const { id, name, size, sent, phase, problem } = sending;
  return (
    <li className="upload" data-state={phase}>
      <span className="upload-name clip" title={name}>
        {name}
      </span>
      {phase === "failed" ? (
        <span className="upload-state bad">{problem}</span>
      ) : (
        <span className="upload-state soft numbers">
          {phase === "queued"
            ? "waits its turn"
            : `${formatSize(Math.min(sent, size))} of ${formatSize(size)}`}
        </span>
      )}
      {phase === "failed" ? null : (
        <progress value={sent} max={Math.max(1, size)} aria-label={`Sending ${name}`} />
      )}
      <span className="upload-actions">
        {phase === "failed" ? (
          <button
            type="button"
            className="icon-button tight"
            aria-label={`Send ${name} again`}
            title="Send again"
            onClick={() => uploads.retry(client, id)}
          >
            <RotateCcw size={14} aria-hidden />
          </button>
        ) : null}
        <button
          type="button"
          className="icon-button tight"
          aria-label={phase === "failed" ? `Dismiss ${name}` : `Do not send ${name}`}
          title={phase === "failed" ? "Dismiss" : "Do not send"}
          onClick={() => uploads.cancel(id)}
        >
          <X size={14} aria-hidden />
        </button>
      </span>
    </li>
  );
}

function SentRow({ upload, collection }: { upload: UploadEntry; collection: string }) {
  const { source, state, document_id: documentId } = upload;
  return (
    <li className="upload" data-state={state}>
      {documentId ? (
        <Link
          to="/knowledge/$collection/documents/$documentId"
          params={{ collection, documentId }}
          search={{}}
          className="upload-name clip"
        >
          {source}
        </Link>
      ) : (
        <span className="upload-name clip" title={source}>
          {source}
        </span>
      )}
      <span className={state === "failed" ? "upload-state bad" : "upload-state soft"}>
        {progressOf(upload)}
      </span>
      {/* How long it takes is not known; that it goes on is. */}
      {isUnderWay(upload) ? <progress aria-label={`Reading ${source}`} /> : null}
    </li>
  );
}
