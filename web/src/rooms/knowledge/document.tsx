/** A document as it was read: its passages in order, opened at one of them, and what went wrong. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { Download, Trash2, Users } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { chunksQuery, collectionQuery, documentPath, documentQuery } from "../../api/knowledge";
import type { Collection, DocumentEntry } from "../../api/types";
import { counted, formatMoment, formatSize } from "../../format";
import { QueryState } from "../../parts/query-state";
import { Back } from "../../parts/room";
import { useTitle } from "../../parts/title";
import { AccessEditor, LabelTags } from "./access";
import { Deleting } from "./deleting";
import { DocumentStatus } from "./documents";
import { PageProblems } from "./page-problems";
import { Passage } from "./passage";
import { baseName, isMarkdown, shownTexts } from "./text";
import "./knowledge.css";

export function DocumentRoom() {
  const { collection: ref, documentId } = useParams({
    from: "/house/knowledge/$collection/documents/$documentId",
  });
  const document = useQuery(documentQuery(ref, documentId));
  const collection = useQuery(collectionQuery(ref));
  useTitle(document.data ? baseName(document.data.source) : "Knowledge");
  const error = document.error ?? collection.error;
  return (
    <div className="room">
      <Back to="/knowledge/$collection" params={{ collection: ref }} search={{}}>
        {collection.data?.name ?? ref}
      </Back>
      <QueryState
        query={{
          isPending: document.isPending || collection.isPending,
          isError: error !== null,
          error,
          refetch: () => Promise.all([document.refetch(), collection.refetch()]),
        }}
        what="The document"
        lines={10}
      />
      {document.data && collection.data ? (
        <Opened collection={collection.data} document={document.data} />
      ) : null}
    </div>
  );
}

function Opened({ collection, document }: { collection: Collection; document: DocumentEntry }) {
  const hasTitle = document.title !== "" && document.title !== baseName(document.source);
  return (
    <>
      <div className="room-head">
        <h1>{hasTitle ? document.title : document.source}</h1>
        <Actions collection={collection} document={document} />
      </div>
      <dl className="facts">
        <dt>File</dt>
        <dd>
          {document.source}{" "}
          <span className="faint numbers">
            {formatSize(document.size)}, {counted(document.num_pages, "page")}
          </span>
        </dd>
        <dt>Status</dt>
        <dd>
          <DocumentStatus document={document} />
        </dd>
        <dt>Open to</dt>
        <dd>
          <LabelTags labels={document.labels} isOwn={collection.is_own} />
        </dd>
        <dt>Changed</dt>
        <dd>{formatMoment(document.updated_at)}</dd>
      </dl>
      {document.problems.length > 0 ? <PageProblems collection={collection} document={document} /> : null}
      {document.is_readable ? (
        <Passages collection={collection} document={document} />
      ) : (
        <p className="blank">
          It is not open to you: you look after it, and do not read it. <em>Who may see it</em> changes that.
        </p>
      )}
    </>
  );
}

function Actions({ collection, document }: { collection: Collection; document: DocumentEntry }) {
  const [open, setOpen] = useState<"access" | "delete" | null>(null);
  const navigate = useNavigate();
  const path = documentPath(collection.ref, document.id);
  const name = baseName(document.source);
  return (
    <div className="room-tools">
      {document.is_readable ? (
        <a className="button" href={`${path}/original`} download={name}>
          <Download size={15} aria-hidden /> File
        </a>
      ) : null}
      {collection.is_own ? (
        <>
          <button type="button" className="button" aria-haspopup="dialog" onClick={() => setOpen("access")}>
            <Users size={15} aria-hidden /> Who may see it
          </button>
          <button
            type="button"
            className="icon-button framed"
            aria-label={`Delete ${name}`}
            title="Delete"
            aria-haspopup="dialog"
            onClick={() => setOpen("delete")}
          >
            <Trash2 size={15} aria-hidden />
          </button>
        </>
      ) : null}
      {open === "access" ? (
        <AccessEditor name={name} labels={document.labels} path={path} onClose={() => setOpen(null)} />
      ) : null}
      {open === "delete" ? (
        <Deleting
          name={name}
          what="It is not found or cited any more."
          path={path}
          onClose={() => setOpen(null)}
          onDone={() =>
            void navigate({
              to: "/knowledge/$collection",
              params: { collection: collection.ref },
              search: {},
              replace: true,
            })
          }
        />
      ) : null}
    </div>
  );
}

function Passages({ collection, document }: { collection: Collection; document: DocumentEntry }) {
  const { passage } = useSearch({ from: "/house/knowledge/$collection/documents/$documentId" });
  // What is loaded stays when another passage of it is marked; a link from elsewhere begins around its own.
  const [around] = useState(passage);
  const list = useInfiniteQuery(chunksQuery(collection.ref, document.id, around));
  const chunks = list.data?.pages.flatMap((page) => page.chunks) ?? [];
  const texts = shownTexts(chunks);
  const total = list.data?.pages[0]?.total ?? 0;
  const isHere = passage === undefined || chunks.some(({ chunk_id }) => chunk_id === passage);
  const marked = useRef<HTMLElement>(null);
  useEffect(() => {
    if (passage !== undefined && list.isSuccess) marked.current?.scrollIntoView({ block: "center" });
  }, [passage, list.isSuccess]);

  return (
    <section className="section" aria-labelledby="passages">
      <div className="room-head">
        <h2 id="passages">Passages</h2>
        {total > 0 ? <span className="small faint numbers">{counted(total, "passage")}</span> : null}
      </div>
      <QueryState query={list} what="The passages" lines={10} count={total}>
        <p>Nothing of it is indexed: no page could be trusted.</p>
      </QueryState>
      {list.isSuccess && !isHere ? (
        <p className="note small warning" role="status">
          The passage that was cited is not in it any more: the document has changed since.
        </p>
      ) : null}
      {list.hasPreviousPage ? (
        <button
          type="button"
          className="button more"
          disabled={list.isFetchingPreviousPage}
          onClick={() => void list.fetchPreviousPage()}
        >
          What stands before
        </button>
      ) : null}
      <ol role="list" className="passages">
        {chunks.map((chunk, place) => (
          <Passage
            key={chunk.chunk_id}
            chunk={chunk}
            text={texts[place] ?? ""}
            before={chunks[place - 1]}
            isMarkdown={isMarkdown(document.media_type)}
            hasPages={document.num_pages > 1}
            marked={chunk.chunk_id === passage ? marked : null}
          />
        ))}
      </ol>
      {list.hasNextPage ? (
        <button
          type="button"
          className="button more"
          disabled={list.isFetchingNextPage}
          onClick={() => void list.fetchNextPage()}
        >
          What stands after
        </button>
      ) : null}
    </section>
  );
}
