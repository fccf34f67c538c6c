/** Ctrl-K: everything the page can go to or do, in one filtered list. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { Box, LogOut, MessageSquare, Moon, Plus, Search, Sun, TextQuote } from "lucide-react";
import { Dialog } from "radix-ui";
import { type KeyboardEvent, type ReactNode, useEffect, useId, useState } from "react";
import { artifactsQuery, conversationsQuery } from "../api/queries";
import { artifactName, formatWhen } from "../format";
import { setTheme, useIsDark } from "../look/theme";
import { signOut } from "../rooms/sign-out";
import { rank } from "./palette-search";
import { useRooms } from "./shell";

interface Option {
  id: string;
  group: string;
  text: string;
  icon: ReactNode;
  hint: string;
  run: () => void;
}

const SHOWN = 30;

function useOptions(): Option[] {
  const navigate = useNavigate();
  const client = useQueryClient();
  const isDark = useIsDark();
  const conversations = useQuery(conversationsQuery).data ?? [];
  const artifacts = useQuery(artifactsQuery).data ?? [];
  const rooms = useRooms().map(({ to, name, Icon }) => ({
    id: to,
    group: "Rooms",
    text: name,
    icon: <Icon size={16} aria-hidden />,
    hint: "",
    run: () => void navigate({ to }),
  }));
  const actions = [
    {
      text: "New chat",
      icon: <Plus size={16} aria-hidden />,
      run: () => void navigate({ to: "/chat" }),
    },
    {
      text: "Prompts",
      icon: <TextQuote size={16} aria-hidden />,
      run: () => void navigate({ to: "/prompts" }),
    },
    {
      text: isDark ? "Light theme" : "Dark theme",
      icon: isDark ? <Sun size={16} aria-hidden /> : <Moon size={16} aria-hidden />,
      run: () => setTheme(isDark ? "light" : "dark"),
    },
    { text: "Sign out", icon: <LogOut size={16} aria-hidden />, run: () => void signOut(client, navigate) },
  ].map((action) => ({ ...action, id: action.text, group: "Actions", hint: "" }));
  return [
    ...rooms,
    ...actions,
    ...conversations.map(({ id, title, updated_at }) => ({
      id,
      group: "Conversations",
      text: title,
      icon: <MessageSquare size={16} aria-hidden />,
      hint: formatWhen(updated_at),
      run: () => void navigate({ to: "/chat/$conversationId", params: { conversationId: id } }),
    })),
    ...artifacts
      .filter((artifact) => artifact.names.length > 0)
      .map((artifact) => ({
        id: artifact.digest,
        group: "Models",
        text: artifactName(artifact),
        icon: <Box size={16} aria-hidden />,
        hint: artifact.kind,
        run: () => void navigate({ to: "/models/$digest", params: { digest: artifact.digest } }),
      })),
  ];
}

export default function Palette({ onClose }: { onClose: () => void }) {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const listId = useId();
  const options = rank(query, useOptions(), SHOWN);
  // While searching, the best match comes first; unfiltered, the groups stand together anyway.
  const active = options[Math.min(at, options.length - 1)];

  const choose = (option: Option | undefined) => {
    if (!option) return;
    onClose();
    option.run();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined && options.length > 0) {
      event.preventDefault();
      setAt((now) => (Math.min(now, options.length - 1) + step + options.length) % options.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      choose(active);
    }
  };
  useEffect(() => {
    if (active) document.getElementById(`${listId}-${active.id}`)?.scrollIntoView({ block: "nearest" });
  }, [active, listId]);

  return (
    <Dialog.Root open onOpenChange={(isOpen) => (isOpen ? undefined : onClose())}>
      <Dialog.Portal>
        <Dialog.Overlay className="veil" />
        <Dialog.Content className="dialog" aria-describedby={undefined}>
          <Dialog.Title className="hidden-visually">Go to</Dialog.Title>
          <div className="palette-head">
            <Search size={17} aria-hidden />
            <input
              role="combobox"
              aria-expanded="true"
              aria-controls={listId}
              aria-activedescendant={active ? `${listId}-${active.id}` : undefined}
              aria-label="Go to a room, conversation or model, or do something"
              placeholder="Go to…"
              value={query}
              onChange={(event) => {
                setQuery(event.target.value);
                setAt(0);
              }}
              onKeyDown={onKeyDown}
            />
            <kbd>Esc</kbd>
          </div>
          <div className="palette-list" id={listId} role="listbox" aria-label="Matches" tabIndex={-1}>
            {options.map((option, index) => (
              <PaletteOption
                key={option.id}
                option={option}
                id={`${listId}-${option.id}`}
                isActive={option === active}
                showsGroup={query === "" && option.group !== options[index - 1]?.group}
                onChoose={() => choose(option)}
              />
            ))}
            {options.length === 0 ? <p className="palette-group">Nothing matches.</p> : null}
          </div>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

interface PaletteOptionProps {
  option: Option;
  id: string;
  isActive: boolean;
  showsGroup: boolean;
  onChoose: () => void;
}

function PaletteOption({ option, id, isActive, showsGroup, onChoose }: PaletteOptionProps) {
  return (
    <>
      {showsGroup ? (
        <div className="palette-group" role="presentation">
          {option.group}
        </div>
      ) : null}
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: the combobox handles the keys, as its pattern asks */}
      <div
        id={id}
        className="palette-option"
        role="option"
        aria-selected={isActive}
        tabIndex={-1}
        onClick={onChoose}
      >
        {option.icon}
        <span className="clip">{option.text}</span>
        <span className="hint">{option.hint}</span>
      </div>
    </>
  );
}
