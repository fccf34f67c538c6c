/** Whether replies come from a collection, and from which. The collections are asked for when it is opened. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { BookOpen, Check, ChevronDown } from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { useState } from "react";
import { told } from "../../api/client";
import { collectionQuery, collectionsQuery } from "../../api/knowledge";
import { counted } from "../../format";

interface KnowledgeChoiceProps {
  /** What a collection goes by, as its `ref` says; empty: none. */
  value: string;
  onChange: (ref: string) => void;
}

export function KnowledgeChoice({ value, onChange }: KnowledgeChoiceProps) {
  const [isOpen, setOpen] = useState(false);
  const name = useCollectionName(value);
  return (
    <DropdownMenu.Root modal={false} open={isOpen} onOpenChange={setOpen}>
      <DropdownMenu.Trigger
        className="knowledge-choice"
        data-chosen={value !== "" || undefined}
        aria-label={`Knowledge: ${name || "none"}`}
      >
        <BookOpen size={14} aria-hidden />
        <span className="clip">{name || "Knowledge"}</span>
        <ChevronDown size={13} aria-hidden />
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu knowledge-menu" side="top" align="start" sideOffset={6}>
          <Options value={value} onChange={onChange} />
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

/** An id, which is what another's collection goes by where names are alike, says nothing to a reader. */
export function useCollectionName(ref: string): string {
  const found = useQuery({ ...collectionQuery(ref), enabled: ref.startsWith("vs_") });
  return found.data?.name ?? ref;
}

function Options({ value, onChange }: KnowledgeChoiceProps) {
  const list = useQuery(collectionsQuery);
  const collections = list.data?.collections ?? [];
  const { preparing, missing } = list.data ?? {};
  return (
    <>
      <DropdownMenu.RadioGroup value={value} onValueChange={onChange}>
        <Option name="" text="None" detail="the model alone" />
        {collections.map(({ id, ref, name, owner, num_documents: count }) => (
          <Option
            key={id}
            name={ref}
            text={name}
            detail={ref === id ? `of ${owner}` : counted(count, "document")}
          />
        ))}
      </DropdownMenu.RadioGroup>
      {list.isPending ? <p className="menu-note">Looking for collections…</p> : null}
      {list.isError ? <p className="menu-note">{told(list.error)}</p> : null}
      {missing ? <p className="menu-note">{missing.message}.</p> : null}
      {preparing && preparing.total > 0 ? (
        <p className="menu-note numbers">
          {preparing.name} is being made: {preparing.done} of {preparing.total}
        </p>
      ) : null}
      <DropdownMenu.Separator className="menu-line" />
      <DropdownMenu.Item className="menu-item" asChild>
        <Link to="/knowledge">All collections</Link>
      </DropdownMenu.Item>
    </>
  );
}

function Option({ name, text, detail }: { name: string; text: string; detail: string }) {
  return (
    <DropdownMenu.RadioItem className="menu-item" value={name}>
      <span className="menu-check">
        <DropdownMenu.ItemIndicator>
          <Check size={14} aria-hidden />
        </DropdownMenu.ItemIndicator>
      </span>
      <span className="clip">{text}</span>
      <span className="hint">{detail}</span>
    </DropdownMenu.RadioItem>
  );
}
