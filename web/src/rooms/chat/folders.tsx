/** Folders of the list of conversations: opened, renamed, deleted without what lies in them, and dropped into. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { ChevronRight, Pencil, Trash2 } from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { type DragEvent, type ReactNode, useState } from "react";
import { sendJson, told } from "../../api/client";
import { refreshConversations } from "../../api/organising";
import type { ConversationEntry, Folder } from "../../api/types";
import { counted } from "../../format";
import { FormModal } from "../../parts/form-modal";
import { TextField } from "../../parts/text-field";
import { notify } from "../../parts/toasts";
import { recall, remember } from "../../storage";
import { DRAGGED, MoreMenu, useMove } from "./conversation-item";
import { NameField } from "./name-field";

interface FolderViewProps {
  folder: Folder;
  inside: readonly ConversationEntry[];
  /** Whether the conversation that is open lies in it. */
  isCurrent: boolean;
  children: ReactNode;
}

export function FolderView({ folder, inside, isCurrent, children }: FolderViewProps) {
  const { folder_id: id, name } = folder;
  const [isOpen, setOpen] = useState(() => recall(`folder.${id}`, isCurrent));
  const [isRenaming, setRenaming] = useState(false);
  const { rename, remove } = useFolderChanges(folder, inside);
  const toggle = (next: boolean) => {
    setOpen(next);
    remember(`folder.${id}`, next);
  };
  if (isRenaming) {
    return (
      <NameField
        label="Name of the folder"
        name={name}
        maxLength={100}
        onDone={(text) => {
          setRenaming(false);
          if (text && text !== name) rename.mutate(text);
        }}
      />
    );
  }
  return (
    <DropPlace folderId={id} onTaken={() => toggle(true)}>
      <div className="chat-item folder">
        <button type="button" className="folder-name" aria-expanded={isOpen} onClick={() => toggle(!isOpen)}>
          <ChevronRight size={14} aria-hidden />
          <span className="clip">{name}</span>
          <span className="faint numbers" title={counted(inside.length, "conversation")}>
            {inside.length}
          </span>
        </button>
        <MoreMenu label={`More for the folder “${name}”`}>
          <DropdownMenu.Item className="menu-item" onSelect={() => setRenaming(true)}>
            <Pencil size={15} aria-hidden /> Rename
          </DropdownMenu.Item>
          <DropdownMenu.Item className="menu-item" onSelect={() => remove.mutate()}>
            <Trash2 size={15} aria-hidden /> Delete the folder alone
          </DropdownMenu.Item>
        </MoreMenu>
      </div>
      {isOpen ? (
        <ul role="list" className="folder-inside" aria-label={`In ${name}`}>
          {children}
        </ul>
      ) : null}
      {isOpen && inside.length === 0 ? <p className="folder-empty">Drag conversations here.</p> : null}
    </DropPlace>
  );
}

interface DropPlaceProps {
  folderId: string | null;
  onTaken?: () => void;
  children: ReactNode;
}

/** Where a dragged conversation may be let go; the menu of each does the same by keyboard. */
export function DropPlace({ folderId, onTaken, children }: DropPlaceProps) {
  const [depth, setDepth] = useState(0);
  const move = useMove();
  const isOurs = (event: DragEvent) => event.dataTransfer.types.includes(DRAGGED);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: a shortcut for pointers beside the menu
    <div
      className="drop-place"
      data-over={depth > 0 || undefined}
      onDragEnter={(event) => {
        if (isOurs(event)) setDepth(depth + 1);
      }}
      onDragLeave={(event) => {
        if (isOurs(event)) setDepth(Math.max(0, depth - 1));
      }}
      onDragOver={(event) => {
        if (isOurs(event)) event.preventDefault();
      }}
      onDrop={(event) => {
        setDepth(0);
        const id = event.dataTransfer.getData(DRAGGED);
        if (!id) return;
        event.preventDefault();
        move.mutate({ id, folderId });
        onTaken?.();
      }}
    >
      {children}
    </div>
  );
}

interface NewFolderProps {
  conversationIds?: readonly string[];
  onClose: () => void;
}

export function NewFolder({ conversationIds = [], onClose }: NewFolderProps) {
  const [name, setName] = useState("");
  const client = useQueryClient();
  const make = useMutation({
    mutationFn: () => sendJson<Folder>("POST", "/api/folders", { name, conversation_ids: conversationIds }),
    onSuccess: async ({ folder_id: id }) => {
      if (conversationIds.length > 0) remember(`folder.${id}`, true);
      await refreshConversations(client);
      onClose();
    },
  });
  return (
    <FormModal
      title="New folder"
      does="Make it"
      order={make}
      failed="Not made"
      isReady={name.trim() !== ""}
      onClose={onClose}
    >
      <TextField label="Name" value={name} onChange={setName} maxLength={100} />
    </FormModal>
  );
}

function useFolderChanges({ folder_id: id, name }: Folder, inside: readonly ConversationEntry[]) {
  const client = useQueryClient();
  const path = `/api/folders/${encodeURIComponent(id)}`;
  const onSettled = () => refreshConversations(client);
  const onError = (error: Error) => notify(told(error));
  const rename = useMutation({
    mutationFn: (text: string) => sendJson("PATCH", path, { name: text }),
    onSettled,
    onError,
  });
  const bringBack = useMutation({
    mutationFn: (ids: readonly string[]) => sendJson("POST", "/api/folders", { name, conversation_ids: ids }),
    onSettled,
    onError,
  });
  const remove = useMutation({
    mutationFn: () => sendJson("DELETE", path),
    onSuccess: () => {
      const ids = inside.map((entry) => entry.id);
      notify(`Deleted the folder “${name}”; what lay in it stays`, () => bringBack.mutate(ids));
    },
    onSettled,
    onError,
  });
  return { rename, remove };
}
