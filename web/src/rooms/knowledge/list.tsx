/** Collections: what can be asked, and what is in it. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { Plus } from "lucide-react";
import { useState } from "react";
import { collectionsQuery, makeCollection } from "../../api/knowledge";
import type { Collection, CollectionList } from "../../api/types";
import { counted, formatMoment, formatSize, formatWhen, matches } from "../../format";
import { Filter } from "../../parts/filter";
import { FormModal } from "../../parts/form-modal";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Table } from "../../parts/table";
import { TextField } from "../../parts/text-field";
import { LabelTags } from "./access";

import "./knowledge.css";

export function KnowledgeRoom() {
  const { q = "" } = useSearch({ from: "/house/knowledge" });
  const navigate = useNavigate({ from: "/knowledge" });
  const list = useQuery(collectionsQuery);
  const all = list.data?.collections ?? [];
  const shown = all.filter(({ name, owner }) => matches(q, name, owner));

  return (
    <Room
      title="Knowledge"
      tools={
        <>
          <Filter
            label="Filter by name or owner"
            value={q}
            onChange={(text) => void navigate({ search: { q: text }, replace: true })}
          />
          <NewCollection />
        </>
      }
    >
      {list.data?.missing ? <MissingNote missing={list.data.missing} /> : null}
      {list.data?.preparing ? <PreparingNote preparing={list.data.preparing} /> : null}
      <QueryState query={list} what="The collections" count={shown.length} isFiltered={all.length > 0}>
        <p>There is no collection yet.</p>
        <p>
          Make one and drop files into it, or put a folder in with <code>cairn index add FOLDER</code>. Then
          choose it beside the message box of the chat, and ask.
        </p>
      </QueryState>
      {shown.length > 0 ? <CollectionTable collections={shown} /> : null}
    </Room>
  );
}

function CollectionTable({ collections }: { collections: readonly Collection[] }) {
  return (
    <Table
      columns={[
        "Collection",
        { head: "Documents", isRight: true },
        { head: "Passages", isRight: true, isWide: true },
        { head: "Size", isRight: true, isWide: true },
        "Open to",
        { head: "Made", isRight: true, isWide: true },
      ]}
    >
      {collections.map((each) => (
        <tr key={each.id}>
          <td>
            <Link
              to="/knowledge/$collection"
              params={{ collection: each.ref }}
              search={{}}
              className="row-link"
            >
              {each.name}
            </Link>
            {each.is_own ? null : <span className="tag beside">of {each.owner}</span>}
            <SkippedNote collection={each} />
          </td>
          <td className="right numbers soft">{each.num_documents.toLocaleString("en-GB")}</td>
          <td className="right numbers soft wide-only">{each.num_chunks.toLocaleString("en-GB")}</td>
          <td className="right numbers soft wide-only">{formatSize(each.num_bytes)}</td>
          <td>
            <LabelTags labels={each.labels} isOwn={each.is_own} />
          </td>
          <td className="right numbers soft wide-only" title={formatMoment(each.created_at)}>
            {formatWhen(each.created_at)}
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** Pages that could not be trusted are said wherever the collection is named. */
export function SkippedNote({ collection }: { collection: Collection }) {
  const { num_skipped_pages: pages } = collection;
  if (pages === 0) return null;
  return <span className="small warning">{counted(pages, "page")} not indexed</span>;
}

export function MissingNote({ missing }: { missing: NonNullable<CollectionList["missing"]> }) {
  return (
    <div className="problem note" role="alert">
      <div>
        <p>
          <strong>{missing.message}.</strong> Until it is, nothing can be put into a collection or found in
          one.
        </p>
        <p>
          <code>{missing.remedy}</code>
        </p>
      </div>
    </div>
  );
}

function PreparingNote({ preparing }: { preparing: NonNullable<CollectionList["preparing"]> }) {
  const { name, done, total } = preparing;
  if (total === 0) return null;
  return (
    <div className="preparing" role="status">
      <span>
        Cairn’s own documentation becomes the collection <strong>{name}</strong>
      </span>
      <progress value={done} max={total} aria-label={`Pages of ${name}`} />
      <span className="numbers soft">
        {done} of {counted(total, "page")}
      </span>
    </div>
  );
}

function NewCollection() {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <button type="button" className="button primary" aria-haspopup="dialog" onClick={() => setOpen(true)}>
        <Plus size={16} aria-hidden />
        New collection
      </button>
      {isOpen ? <NewCollectionForm onClose={() => setOpen(false)} /> : null}
    </>
  );
}

function NewCollectionForm({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [isShared, setShared] = useState(false);
  const client = useQueryClient();
  const navigate = useNavigate();
  const make = useMutation({
    mutationFn: () => makeCollection({ name, ...(isShared ? { labels: ["everyone"] } : {}) }),
    onSuccess: (made) => {
      void client.invalidateQueries({ queryKey: collectionsQuery.queryKey });
      void navigate({ to: "/knowledge/$collection", params: { collection: made.ref }, search: {} });
    },
  });
  return (
    <FormModal
      title="New collection"
      does="Make it"
      order={make}
      failed="Not made"
      onClose={onClose}
      isReady={name.trim() !== ""}
    >
      <TextField
        label="Name"
        placeholder="Such as contracts or house rules"
        maxLength={100}
        value={name}
        onChange={setName}
      />
      <fieldset className="choices">
        <legend className="label">Who may see what is put into it</legend>
        <label>
          <input type="radio" name="open-to" checked={!isShared} onChange={() => setShared(false)} />
          Only you
        </label>
        <label>
          <input type="radio" name="open-to" checked={isShared} onChange={() => setShared(true)} />
          Everyone who signs in here
        </label>
      </fieldset>
      <p className="small soft">That can be changed later, for each document too.</p>
    </FormModal>
  );
}
