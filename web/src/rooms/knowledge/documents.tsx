/** The documents of a collection, with what could not be read of them. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { AlertTriangle, Ban, Check } from "lucide-react";
import { DOCUMENTS_SHOWN, documentsQuery } from "../../api/knowledge";
import type { Collection, DocumentEntry } from "../../api/types";
import { counted, formatMoment, formatSize, formatWhen } from "../../format";
import { Choice, Filter } from "../../parts/filter";
import { Pager } from "../../parts/pager";
import { QueryState } from "../../parts/query-state";
import { Table } from "../../parts/table";
import { LabelTags } from "./access";

const STATES = [
  ["", "All"],
  ["ready", "ready"],
  ["partial", "partly read"],
  ["unreadable", "not readable"],
] as const;

export function Documents({ collection }: { collection: Collection }) {
  const { q = "", status = "", page = "1" } = useSearch({ from: "/house/knowledge/$collection" });
  const navigate = useNavigate({ from: "/knowledge/$collection" });
  const at = Math.max(1, Number.parseInt(page, 10) || 1);
  const list = useQuery(documentsQuery(collection.ref, { q, status, page: at }));
  const isFiltered = q !== "" || status !== "";
  const change = (search: { q?: string; status?: string; page?: string }) =>
    void navigate({ search: (old) => ({ ...old, page: "", ...search }), replace: true });

  return (
    <section className="section" aria-labelledby="documents">
      <div className="room-head">
        <h2 id="documents">Documents</h2>
        {collection.num_documents > 0 ? (
          <div className="room-tools">
            <Filter label="Filter by name or title" value={q} onChange={(text) => change({ q: text })} />
            <Choice
              label="Status"
              value={status}
              onChange={(value) => change({ status: value })}
              options={STATES}
            />
          </div>
        ) : null}
      </div>
      <QueryState query={list} what="The documents" count={list.data?.total ?? 0} isFiltered={isFiltered}>
        <NothingHere collection={collection} />
      </QueryState>
      {list.data && list.data.documents.length > 0 ? (
        <DocumentTable collection={collection} documents={list.data.documents} />
      ) : null}
      {list.data ? (
        <Pager
          total={list.data.total}
          shown={DOCUMENTS_SHOWN}
          at={at}
          onChange={(next) => change({ page: String(next) })}
        />
      ) : null}
    </section>
  );
}

function DocumentTable({
  collection,
  documents,
}: {
  collection: Collection;
  documents: readonly DocumentEntry[];
}) {
  return (
    <Table
      columns={[
        "Document",
        "Status",
        { head: "Pages", isRight: true, isWide: true },
        { head: "Size", isRight: true, isWide: true },
        { head: "Open to", isWide: true },
        { head: "Changed", isRight: true, isWide: true },
      ]}
    >
      {documents.map((each) => (
        <tr key={each.id}>
          <td>
            <Link
              to="/knowledge/$collection/documents/$documentId"
              params={{ collection: collection.ref, documentId: each.id }}
              search={{}}
              className="row-link"
            >
              {each.source}
            </Link>
            {each.title && each.title !== each.source ? (
              <span className="document-title small faint">{each.title}</span>
            ) : null}
          </td>
          <td>
            <DocumentStatus document={each} />
          </td>
          <td className="right numbers soft wide-only">{each.num_pages.toLocaleString("en-GB")}</td>
          <td className="right numbers soft wide-only">{formatSize(each.size)}</td>
          <td className="wide-only">
            <LabelTags labels={each.labels} isOwn={collection.is_own} />
          </td>
          <td className="right numbers soft wide-only" title={formatMoment(each.updated_at)}>
            {formatWhen(each.updated_at)}
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** In words and a shape, not in colour alone. */
export function DocumentStatus({ document }: { document: DocumentEntry }) {
  const { status, num_pages: pages, skipped_pages: skipped, problems } = document;
  if (status === "unreadable") {
    return (
      <span className="document-status" data-status="bad">
        <Ban size={14} aria-hidden /> {problems[0]?.kind.replaceAll("_", " ") ?? "not readable"}
      </span>
    );
  }
  if (skipped.length > 0) {
    return (
      <span className="document-status" data-status="warn">
        <AlertTriangle size={14} aria-hidden /> {skipped.length} of {counted(pages, "page")} not indexed
      </span>
    );
  }
  return (
    <span className="document-status">
      <Check size={14} aria-hidden /> ready
      {problems.length > 0 ? <span className="faint">, {counted(problems.length, "note")}</span> : null}
    </span>
  );
}

function NothingHere({ collection }: { collection: Collection }) {
  if (!collection.is_own) return <p>There is nothing in it that is open to you.</p>;
  return (
    <>
      <p>Nothing is in it yet.</p>
      <p>
        Drop files or folders above: PDF, Word, Excel, PowerPoint, HTML, EPUB, e-mail, Markdown, text, tables
        and source code. Or put a folder in and keep it so:{" "}
        <code>cairn index add FOLDER --collection {quoted(collection.name)}</code>
      </p>
    </>
  );
}

function quoted(name: string): string {
  return /^[\w.-]+$/.test(name) ? name : `"${name}"`;
}
