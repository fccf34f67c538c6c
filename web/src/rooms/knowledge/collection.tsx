/** One collection: what is in it, what is found in it, and what comes into it. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { Layers, MessageSquare, MoreHorizontal, Settings2, Trash2, Users } from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { useState } from "react";
import { collectionPath, collectionQuery } from "../../api/knowledge";
import type { Collection } from "../../api/types";
import { counted, formatSize } from "../../format";
import { QueryState } from "../../parts/query-state";
import { Back } from "../../parts/room";
import { useTitle } from "../../parts/title";
import { AccessEditor, LabelTags } from "./access";
import { Deleting } from "./deleting";
import { Documents } from "./documents";
import { DropZone } from "./drop-zone";
import { EmbeddingDialog } from "./embedding";
import { Search } from "./search";
import { SettingsDialog } from "./settings";

import "./knowledge.css";

export function CollectionRoom() {
  const { collection: ref } = useParams({ from: "/house/knowledge/$collection" });
  const collection = useQuery(collectionQuery(ref));
  useTitle(collection.data?.name ?? "Knowledge");
  return (
    <div className="room">
      <Back to="/knowledge">Knowledge</Back>
      <QueryState query={collection} what="The collection" lines={8} />
      {collection.data ? <Inside collection={collection.data} /> : null}
    </div>
  );
}

function Inside({ collection }: { collection: Collection }) {
  return (
    <>
      <div className="room-head">
        <h1>{collection.name}</h1>
        <div className="room-tools">
          <Link to="/chat" search={{ knowledge: collection.ref }} className="button">
            <MessageSquare size={15} aria-hidden /> Ask it
          </Link>
          {collection.is_own ? <Menu collection={collection} /> : null}
        </div>
      </div>
      <p className="collection-facts small soft">
        <span className="numbers">
          {counted(collection.num_documents, "document")}, {counted(collection.num_chunks, "passage")},{" "}
          {formatSize(collection.num_bytes)}
        </span>
        <span>
          of {collection.owner}, open to <LabelTags labels={collection.labels} isOwn={collection.is_own} />
        </span>
        {collection.folders.map((folder) => (
          <span key={folder}>
            kept up with <code>{folder}</code>
          </span>
        ))}
      </p>
      {collection.num_documents > 0 ? <Search collection={collection} /> : null}
      {collection.is_own ? <DropZone collection={collection} /> : null}
      <Documents collection={collection} />
    </>
  );
}

function Menu({ collection }: { collection: Collection }) {
  const [open, setOpen] = useState<"access" | "settings" | "embedding" | "delete" | null>(null);
  const navigate = useNavigate();
  const path = collectionPath(collection.id);
  return (
    <>
      <DropdownMenu.Root modal={false}>
        <DropdownMenu.Trigger className="icon-button framed" aria-label={`More for ${collection.name}`}>
          <MoreHorizontal size={17} aria-hidden />
        </DropdownMenu.Trigger>
        <DropdownMenu.Portal>
          <DropdownMenu.Content className="menu" align="end" sideOffset={4}>
            <DropdownMenu.Item className="menu-item" onSelect={() => setOpen("access")}>
              <Users size={15} aria-hidden /> Who may see it
            </DropdownMenu.Item>
            <DropdownMenu.Item className="menu-item" onSelect={() => setOpen("settings")}>
              <Settings2 size={15} aria-hidden /> Settings
            </DropdownMenu.Item>
            <DropdownMenu.Item className="menu-item" onSelect={() => setOpen("embedding")}>
              <Layers size={15} aria-hidden /> Embedder and index
            </DropdownMenu.Item>
            <DropdownMenu.Item className="menu-item" onSelect={() => setOpen("delete")}>
              <Trash2 size={15} aria-hidden /> Delete
            </DropdownMenu.Item>
          </DropdownMenu.Content>
        </DropdownMenu.Portal>
      </DropdownMenu.Root>
      {open === "access" ? (
        <AccessEditor
          name={collection.name}
          labels={collection.labels}
          path={path}
          isCollection
          onClose={() => setOpen(null)}
        />
      ) : null}
      {open === "settings" ? <SettingsDialog collection={collection} onClose={() => setOpen(null)} /> : null}
      {open === "embedding" ? (
        <EmbeddingDialog collection={collection} onClose={() => setOpen(null)} />
      ) : null}
      {open === "delete" ? (
        <Deleting
          name={collection.name}
          what={`All that is in it goes with it: ${counted(collection.num_documents, "document")}. Files in folders stay where they are.`}
          path={path}
          byName
          onClose={() => setOpen(null)}
          onDone={() => void navigate({ to: "/knowledge" })}
        />
      ) : null}
    </>
  );
}
