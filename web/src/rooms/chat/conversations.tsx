/** The list of conversations: in folders and by day, searched by title and by what was said. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { FolderPlus, Plus } from "lucide-react";
import { type ReactNode, useDeferredValue, useState } from "react";
import { foldersQuery } from "../../api/organising";
import { conversationsQuery } from "../../api/queries";
import type { ConversationEntry } from "../../api/types";
import { dayLabel, matches } from "../../format";
import { Filter } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { ConversationItem } from "./conversation-item";
import { DropPlace, FolderView, NewFolder } from "./folders";
import { Found } from "./found";

interface ConversationsProps {
  currentId: string | null;
  onChosen?: () => void;
}

export function NewChatLink(props: {
  className: string;
  label?: string;
  onClick?: () => void;
  children: ReactNode;
}) {
  return (
    <Link
      to="/chat"
      className={props.className}
      aria-label={props.label}
      title={props.label}
      onClick={() => {
        props.onClick?.();
        // Already there: the address does not change, so the box asks for the keyboard itself.
        document.getElementById("composer")?.focus();
      }}
    >
      {props.children}
    </Link>
  );
}

export function Conversations({ currentId, onChosen }: ConversationsProps) {
  const [words, setWords] = useState("");
  const [isMaking, setMaking] = useState(false);
  const searched = useDeferredValue(words);
  const list = useQuery(conversationsQuery);
  const all = list.data ?? [];
  const isSearching = words.trim() !== "";
  const titled = all.filter(({ title }) => matches(words, title));
  const item = (conversation: ConversationEntry) => (
    <ConversationItem
      key={conversation.id}
      conversation={conversation}
      isCurrent={conversation.id === currentId}
      onChosen={onChosen}
    />
  );

  return (
    <>
      <div className="chat-list-head">
        <div className="chat-list-tools">
          <NewChatLink className="button" {...(onChosen ? { onClick: onChosen } : {})}>
            <Plus size={16} aria-hidden />
            New chat
          </NewChatLink>
          <button
            type="button"
            className="icon-button"
            aria-label="New folder"
            title="New folder"
            onClick={() => setMaking(true)}
          >
            <FolderPlus size={17} aria-hidden />
          </button>
        </div>
        <Filter label="Search conversations" placeholder="Search" value={words} onChange={setWords} />
      </div>
      <nav className="chat-list-body" aria-label="Conversations">
        <QueryState query={list} what="The conversations" count={all.length}>
          <p>Conversations will stand here.</p>
        </QueryState>
        {isSearching ? (
          <>
            {titled.length > 0 ? (
              <section aria-label="By title">
                <h2>By title</h2>
                <ul role="list">{titled.map(item)}</ul>
              </section>
            ) : null}
            <Found words={searched} listed={new Set(titled.map(({ id }) => id))} onChosen={onChosen} />
          </>
        ) : (
          <Arranged all={all} currentId={currentId} item={item} />
        )}
      </nav>
      {isMaking ? <NewFolder onClose={() => setMaking(false)} /> : null}
    </>
  );
}

interface ArrangedProps {
  all: readonly ConversationEntry[];
  currentId: string | null;
  item: (conversation: ConversationEntry) => ReactNode;
}

function Arranged({ all, currentId, item }: ArrangedProps) {
  const folders = useQuery(foldersQuery).data ?? [];
  const known = new Set(folders.map(({ folder_id: id }) => id));
  const loose = all.filter(({ folder_id: id }) => id === null || !known.has(id));
  return (
    <>
      {folders.length > 0 ? (
        <section aria-label="Folders">
          <h2>Folders</h2>
          {folders.map((folder) => {
            const inside = all.filter(({ folder_id: id }) => id === folder.folder_id);
            return (
              <FolderView
                key={folder.folder_id}
                folder={folder}
                inside={inside}
                isCurrent={inside.some(({ id }) => id === currentId)}
              >
                {inside.map(item)}
              </FolderView>
            );
          })}
        </section>
      ) : null}
      <DropPlace folderId={null}>
        {folders.length > 0 && loose.length === 0 ? (
          <p className="folder-empty">Drag conversations here to take them out.</p>
        ) : null}
        {byDay(loose).map(([day, conversations]) => (
          <section key={day} aria-label={day}>
            <h2>{day}</h2>
            <ul role="list">{conversations.map(item)}</ul>
          </section>
        ))}
      </DropPlace>
    </>
  );
}

function byDay(conversations: readonly ConversationEntry[]): [string, ConversationEntry[]][] {
  const days = new Map<string, ConversationEntry[]>();
  for (const conversation of conversations) {
    const day = dayLabel(conversation.updated_at);
    const list = days.get(day);
    if (list) list.push(conversation);
    else days.set(day, [conversation]);
  }
  return [...days];
}
