/** A line of the list of conversations: renamed in place, moved, shared, exported, deleted with a way back. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import {
  Check,
  ChevronRight,
  Download,
  Folder as FolderIcon,
  Link2,
  MoreHorizontal,
  Pencil,
  Plus,
  Trash2,
} from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { type ReactNode, useRef, useState } from "react";
import { sendJson, told } from "../../api/client";
import { conversationPath, foldersQuery, refreshConversations, sharesQuery } from "../../api/organising";
import { conversationsQuery } from "../../api/queries";
import type { ConversationEntry } from "../../api/types";
import { formatMoment } from "../../format";
import { notify } from "../../parts/toasts";
import { download, shownLast } from "./exporting";
import { NewFolder } from "./folders";
import { NameField } from "./name-field";
import { ShareDialog } from "./share-dialog";

/** What a dragged conversation is called among what can be dragged. */
export const DRAGGED = "application/x-cairn-conversation";

const OVER_PX = -140;

type Open = "name" | "share" | "folder" | null;

interface ItemProps {
  conversation: ConversationEntry;
  isCurrent: boolean;
  onChosen: (() => void) | undefined;
}

export function ConversationItem({ conversation, isCurrent, onChosen }: ItemProps) {
  const { id, title } = conversation;
  const [open, setOpen] = useState<Open>(null);
  const change = useConversationChanges(conversation, isCurrent);
  const client = useQueryClient();

  if (open === "name") {
    return (
      <li>
        <NameField
          label="Title of the conversation"
          name={title}
          maxLength={200}
          onDone={(text) => {
            setOpen(null);
            if (text && text !== title) change.rename.mutate(text);
          }}
        />
      </li>
    );
  }
  const exportAs = (format: "json" | "markdown") => {
    shownLast(client, id).then(
      (last) => download(`${conversationPath(id)}/export`, { format, message_id: last }),
      (error: unknown) => notify(told(error)),
    );
  };
  return (
    <li
      className="chat-item"
      data-current={isCurrent || undefined}
      draggable
      onDragStart={(event) => {
        event.dataTransfer.setData(DRAGGED, id);
        event.dataTransfer.effectAllowed = "move";
      }}
    >
      <Link
        to="/chat/$conversationId"
        params={{ conversationId: id }}
        className="clip"
        title={`${title}\n${formatMoment(conversation.updated_at)}`}
        aria-current={isCurrent ? "page" : undefined}
        draggable={false}
        onClick={onChosen}
      >
        {title}
      </Link>
      <MoreMenu label={`More for “${title}”`}>
        <DropdownMenu.Item className="menu-item" onSelect={() => setOpen("name")}>
          <Pencil size={15} aria-hidden /> Rename
        </DropdownMenu.Item>
        <MoveMenu conversation={conversation} onMove={change.move.mutate} onNew={() => setOpen("folder")} />
        <DropdownMenu.Item className="menu-item" onSelect={() => setOpen("share")}>
          <Link2 size={15} aria-hidden /> Share…
        </DropdownMenu.Item>
        <DropdownMenu.Item className="menu-item" onSelect={() => exportAs("markdown")}>
          <Download size={15} aria-hidden /> Export as Markdown
        </DropdownMenu.Item>
        <DropdownMenu.Item className="menu-item" onSelect={() => exportAs("json")}>
          <Download size={15} aria-hidden /> Export as JSON
        </DropdownMenu.Item>
        <DropdownMenu.Separator className="menu-line" />
        <DropdownMenu.Item className="menu-item" onSelect={() => change.remove.mutate()}>
          <Trash2 size={15} aria-hidden /> Delete
        </DropdownMenu.Item>
      </MoreMenu>
      {open === "share" ? <ShareDialog conversation={conversation} onClose={() => setOpen(null)} /> : null}
      {open === "folder" ? <NewFolder conversationIds={[id]} onClose={() => setOpen(null)} /> : null}
    </li>
  );
}

/** The menu at the end of a line. It gives the focus back to its button, unless what it opened has taken it. */
export function MoreMenu({ label, children }: { label: string; children: ReactNode }) {
  const hasChosen = useRef(false);
  return (
    <DropdownMenu.Root
      modal={false}
      onOpenChange={(isOpen) => {
        if (isOpen) hasChosen.current = false;
      }}
    >
      <DropdownMenu.Trigger className="icon-button tight" aria-label={label}>
        <MoreHorizontal size={16} aria-hidden />
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          className="menu"
          align="end"
          sideOffset={4}
          collisionPadding={8}
          onClick={() => {
            hasChosen.current = true;
          }}
          onCloseAutoFocus={(event) => {
            const taken = document.activeElement;
            if (hasChosen.current && taken !== null && taken !== document.body) event.preventDefault();
          }}
        >
          {children}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

interface MoveMenuProps {
  conversation: ConversationEntry;
  onMove: (folderId: string | null) => void;
  onNew: () => void;
}

function MoveMenu({ conversation, onMove, onNew }: MoveMenuProps) {
  const folders = useQuery(foldersQuery).data ?? [];
  // Beside it there is no room on a phone: it lies over the menu.
  const offset = matchMedia("(max-width: 860px)").matches ? OVER_PX : 2;
  const places = [{ folder_id: "", name: "No folder" }, ...folders];
  return (
    <DropdownMenu.Sub>
      <DropdownMenu.SubTrigger className="menu-item">
        <FolderIcon size={15} aria-hidden /> Move to
        <ChevronRight size={14} className="menu-end" aria-hidden />
      </DropdownMenu.SubTrigger>
      <DropdownMenu.Portal>
        <DropdownMenu.SubContent className="menu folder-menu" sideOffset={offset} collisionPadding={8}>
          <DropdownMenu.RadioGroup
            value={conversation.folder_id ?? ""}
            onValueChange={(folderId) => onMove(folderId || null)}
          >
            {places.map(({ folder_id: folderId, name }) => (
              <DropdownMenu.RadioItem key={folderId} className="menu-item" value={folderId}>
                <span className="menu-check">
                  <DropdownMenu.ItemIndicator>
                    <Check size={14} aria-hidden />
                  </DropdownMenu.ItemIndicator>
                </span>
                <span className="clip">{name}</span>
              </DropdownMenu.RadioItem>
            ))}
          </DropdownMenu.RadioGroup>
          <DropdownMenu.Separator className="menu-line" />
          <DropdownMenu.Item className="menu-item" onSelect={onNew}>
            <Plus size={15} aria-hidden /> New folder…
          </DropdownMenu.Item>
        </DropdownMenu.SubContent>
      </DropdownMenu.Portal>
    </DropdownMenu.Sub>
  );
}

/** Puts a conversation into a folder, or with null into none. */
export function useMove() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, folderId }: { id: string; folderId: string | null }) =>
      sendJson("PATCH", conversationPath(id), { folder_id: folderId }),
    onMutate: ({ id, folderId }) => {
      client.setQueryData(conversationsQuery.queryKey, (old) =>
        old?.map((entry) => (entry.id === id ? { ...entry, folder_id: folderId } : entry)),
      );
    },
    onSettled: () => refreshConversations(client),
    onError: (error) => notify(told(error)),
  });
}

function useConversationChanges({ id, title }: ConversationEntry, isCurrent: boolean) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const path = conversationPath(id);
  const refresh = () => refreshConversations(client, id);
  const tell = (error: Error) => notify(told(error));
  const moving = useMove();

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
      void client.invalidateQueries({ queryKey: sharesQuery.queryKey });
      void client.invalidateQueries({ queryKey: ["conversations-found"] });
      notify(`Deleted “${title}”`, () => restore.mutate());
      if (isCurrent) await navigate({ to: "/chat" });
    },
    onError: tell,
  });
  const move = { mutate: (folderId: string | null) => moving.mutate({ id, folderId }) };
  return { rename, remove, move };
}
