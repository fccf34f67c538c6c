/** The list of conversations: by day, filtered, renamed in place, deleted with a way back. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { MoreHorizontal, Pencil, Plus, Trash2 } from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { type ReactNode, useRef, useState } from "react";
import { sendJson, told } from "../../api/client";
import { conversationQuery, conversationsQuery } from "../../api/queries";
import type { ConversationEntry } from "../../api/types";
import { dayLabel, formatMoment, matches } from "../../format";
import { Filter } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { notify } from "../../parts/toasts";

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
  const list = useQuery(conversationsQuery);
  const found = list.data?.filter(({ title }) => matches(words, title)) ?? [];

  return (
    <>
      <div className="chat-list-head">
        <NewChatLink className="button" {...(onChosen ? { onClick: onChosen } : {})}>
          <Plus size={16} aria-hidden />
          New chat
        </NewChatLink>
        <Filter label="Filter conversations" value={words} onChange={setWords} />
      </div>
      <nav className="chat-list-body" aria-label="Conversations">
        <QueryState query={list} what="The conversations" count={found.length} isFiltered={words !== ""}>
          <p>Conversations will stand here.</p>
        </QueryState>
        {byDay(found).map(([day, conversations]) => (
          <section key={day} aria-label={day}>
            <h2>{day}</h2>
            <ul role="list">
              {conversations.map((conversation) => (
                <ConversationItem
                  key={conversation.id}
                  conversation={conversation}
                  isCurrent={conversation.id === currentId}
                  onChosen={onChosen}
                />
              ))}
            </ul>
          </section>
        ))}
      </nav>
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

interface ItemProps {
  conversation: ConversationEntry;
  isCurrent: boolean;
  onChosen: (() => void) | undefined;
}

function ConversationItem({ conversation, isCurrent, onChosen }: ItemProps) {
  const [isRenaming, setRenaming] = useState(false);
  const { rename, remove } = useConversationChanges(conversation, isCurrent);

  if (isRenaming) {
    return (
      <li>
        <RenameField
          title={conversation.title}
          onDone={(title) => {
            setRenaming(false);
            if (title && title !== conversation.title) rename.mutate(title);
          }}
        />
      </li>
    );
  }
  return (
    <li className="chat-item" data-current={isCurrent || undefined}>
      <Link
        to="/chat/$conversationId"
        params={{ conversationId: conversation.id }}
        className="clip"
        title={`${conversation.title}\n${formatMoment(conversation.updated_at)}`}
        aria-current={isCurrent ? "page" : undefined}
        onClick={onChosen}
      >
        {conversation.title}
      </Link>
      <DropdownMenu.Root modal={false}>
        <DropdownMenu.Trigger className="icon-button tight" aria-label={`More for “${conversation.title}”`}>
          <MoreHorizontal size={16} aria-hidden />
        </DropdownMenu.Trigger>
        <DropdownMenu.Portal>
          <DropdownMenu.Content
            className="menu"
            align="end"
            sideOffset={4}
            onCloseAutoFocus={keepFocus(isRenaming)}
          >
            <DropdownMenu.Item className="menu-item" onSelect={() => setRenaming(true)}>
              <Pencil size={15} aria-hidden /> Rename
            </DropdownMenu.Item>
            <DropdownMenu.Item className="menu-item" onSelect={() => remove.mutate()}>
              <Trash2 size={15} aria-hidden /> Delete
            </DropdownMenu.Item>
          </DropdownMenu.Content>
        </DropdownMenu.Portal>
      </DropdownMenu.Root>
    </li>
  );
}

/** The menu gives the focus back to its button, unless the name field has taken it. */
function keepFocus(isRenaming: boolean) {
  return (event: Event) => {
    if (isRenaming) event.preventDefault();
  };
}

function RenameField({ title, onDone }: { title: string; onDone: (title: string | null) => void }) {
  const [text, setText] = useState(title);
  const isDone = useRef(false);
  const finish = (result: string | null) => {
    if (isDone.current) return;
    isDone.current = true;
    onDone(result);
  };
  return (
    <input
      ref={(input) => input?.focus()}
      className="field"
      aria-label="Title of the conversation"
      value={text}
      maxLength={200}
      onChange={(event) => setText(event.target.value)}
      onFocus={(event) => event.target.select()}
      onBlur={() => finish(text.trim())}
      onKeyDown={(event) => {
        if (event.key === "Enter") finish(text.trim());
        if (event.key === "Escape") {
          event.stopPropagation();
          finish(null);
        }
      }}
    />
  );
}

function useConversationChanges({ id, title }: ConversationEntry, isCurrent: boolean) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const path = `/api/conversations/${encodeURIComponent(id)}`;
  const refresh = async () => {
    await client.invalidateQueries({ queryKey: conversationsQuery.queryKey });
    await client.invalidateQueries({ queryKey: conversationQuery(id).queryKey });
  };
  const tell = (error: Error) => notify(told(error));

  const rename = useMutation({
    mutationFn: (text: string) => sendJson("PATCH", path, { title: text }),
    onSettled: refresh,
    onError: tell,
  });
  const restore = useMutation({
    mutationFn: () => sendJson("POST", `${path}/restore`),
    onSettled: refresh,
    onError: tell,
  });
  const remove = useMutation({
    mutationFn: () => sendJson("DELETE", path),
    onSuccess: async () => {
      client.setQueryData(conversationsQuery.queryKey, (old) => old?.filter((entry) => entry.id !== id));
      notify(`Deleted “${title}”`, () => restore.mutate());
      if (isCurrent) await navigate({ to: "/chat" });
    },
    onError: tell,
  });
  return { rename, remove };
}
