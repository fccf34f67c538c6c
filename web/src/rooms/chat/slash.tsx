/** Saved prompts in the box: `/` lists them as one types, the button below lists all. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ChevronDown, TextQuote } from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { type KeyboardEvent, type RefObject, useEffect, useId, useRef, useState } from "react";
import { promptsQuery } from "../../api/organising";
import type { Prompt } from "../../api/types";
import { rank } from "../../parts/palette-search";
import { FillForm } from "../prompts/fill-form";
import { askedAt } from "../prompts/filling";

const SHOWN = 8;

interface Place {
  start: number;
  end: number;
}

/** What a box needs to take prompts in: keys, attributes, and what is shown around it. */
export function usePrompts(
  box: RefObject<HTMLTextAreaElement | null>,
  text: string,
  change: (text: string) => void,
) {
  const listId = useId();
  const [caret, setCaret] = useState(0);
  const [at, setAt] = useState(0);
  // Where Esc was pressed, the list stays away until another `/` is typed.
  const [dismissed, setDismissed] = useState<number | null>(null);
  const [asking, setAsking] = useState<{ prompt: Prompt; place: Place } | null>(null);
  const next = useRef<number | null>(null);
  const asked = askedAt(text, Math.min(caret, text.length));
  const isAsked = asked !== null && asked.start !== dismissed;
  const prompts = useQuery({ ...promptsQuery, enabled: isAsked }).data ?? [];
  const found = isAsked
    ? rank(
        asked.words,
        prompts.map((prompt) => ({ prompt, text: prompt.name })),
        SHOWN,
      )
    : [];
  const active = found[Math.min(at, found.length - 1)]?.prompt;

  // The caret goes behind what was put in, once it stands there.
  useEffect(() => {
    if (next.current === null || !box.current) return;
    box.current.focus();
    box.current.setSelectionRange(next.current, next.current);
    next.current = null;
  });

  const put = (said: string, { start, end }: Place) => {
    next.current = start + said.length;
    setCaret(start + said.length);
    change(text.slice(0, start) + said + text.slice(end));
  };
  const choose = (prompt: Prompt, place: Place) => {
    if (prompt.variables.length > 0) setAsking({ prompt, place });
    else put(prompt.content, place);
  };
  const onKeyDown = (event: KeyboardEvent): boolean => {
    if (!active || !asked) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) setAt((Math.min(at, found.length - 1) + step + found.length) % found.length);
    else if ((event.key === "Enter" && !event.shiftKey) || event.key === "Tab") choose(active, asked);
    else if (event.key === "Escape") setDismissed(asked.start);
    else return false;
    event.preventDefault();
    return true;
  };
  const field = {
    "aria-autocomplete": "list",
    "aria-haspopup": "listbox",
    "aria-controls": active ? listId : undefined,
    "aria-activedescendant": active ? `${listId}-${active.prompt_id}` : undefined,
    onSelect: () => {
      const now = box.current?.selectionStart ?? 0;
      setCaret(now);
      if (askedAt(text, now) === null) setDismissed(null);
    },
    onBlur: () => setDismissed(asked?.start ?? null),
  } as const;
  const around = (
    <>
      {active && asked ? (
        <div id={listId} className="menu slash-menu" role="listbox" aria-label="Prompts" tabIndex={-1}>
          {found.map(({ prompt }) => (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the box handles the keys, as the pattern asks
            <div
              key={prompt.prompt_id}
              id={`${listId}-${prompt.prompt_id}`}
              className="slash-option"
              role="option"
              aria-selected={prompt === active}
              tabIndex={-1}
              // The box keeps the keyboard.
              onMouseDown={(event) => event.preventDefault()}
              onClick={() => choose(prompt, asked)}
            >
              <span className="clip">{prompt.name}</span>
              <span className="soft small clip">{prompt.content}</span>
            </div>
          ))}
        </div>
      ) : null}
      {asking ? (
        <FillForm
          prompt={asking.prompt}
          onDone={(said) => {
            put(said, asking.place);
            setAsking(null);
          }}
          onClose={() => setAsking(null)}
        />
      ) : null}
    </>
  );
  /** Puts a prompt where the caret stands. */
  const insert = (prompt: Prompt) => {
    const end = box.current?.selectionEnd ?? text.length;
    choose(prompt, { start: box.current?.selectionStart ?? end, end });
  };
  return { onKeyDown, field, around, insert };
}

/** All prompts, to choose one without typing. */
export function PromptsButton({ onChoose }: { onChoose: (prompt: Prompt) => void }) {
  const [isOpen, setOpen] = useState(false);
  const hasChosen = useRef(false);
  return (
    <DropdownMenu.Root
      modal={false}
      open={isOpen}
      onOpenChange={(open) => {
        if (open) hasChosen.current = false;
        setOpen(open);
      }}
    >
      <DropdownMenu.Trigger className="knowledge-choice" title="Saved prompts; typing / lists them too">
        <TextQuote size={14} aria-hidden />
        Prompts
        <ChevronDown size={13} aria-hidden />
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content
          className="menu knowledge-menu"
          side="top"
          align="start"
          sideOffset={6}
          collisionPadding={8}
          onCloseAutoFocus={(event) => {
            // The box, or the form that asks for variables, has it.
            if (hasChosen.current) event.preventDefault();
          }}
        >
          <Options
            onChoose={(prompt) => {
              hasChosen.current = true;
              onChoose(prompt);
            }}
          />
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

function Options({ onChoose }: { onChoose: (prompt: Prompt) => void }) {
  const list = useQuery(promptsQuery);
  return (
    <>
      {list.data?.map((prompt) => (
        <DropdownMenu.Item key={prompt.prompt_id} className="menu-item" onSelect={() => onChoose(prompt)}>
          <span className="clip">{prompt.name}</span>
          {prompt.is_shared ? <span className="hint">for everyone</span> : null}
        </DropdownMenu.Item>
      ))}
      {list.data?.length === 0 ? <p className="menu-note">No prompt is saved yet.</p> : null}
      {list.isPending ? <p className="menu-note">Looking for prompts…</p> : null}
      <DropdownMenu.Separator className="menu-line" />
      <DropdownMenu.Item className="menu-item" asChild>
        <Link to="/prompts">All prompts</Link>
      </DropdownMenu.Item>
    </>
  );
}
