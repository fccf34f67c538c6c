/** Whether replies come from a collection, and from which. The collections are asked for when it is opened. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { BookOpen, Check, ChevronDown } from "lucide-react";
import { DropdownMenu } from "radix-ui";
import { useState } from "react";
import { told } from "../../api/client";
import { collectionsQuery } from "../../api/knowledge";
import { counted } from "../../format";

interface KnowledgeChoiceProps {
  /** Name of a collection; empty: none. */
  value: string;
  onChange: (name: string) => void;
}

export function KnowledgeChoice({ value, onChange }: KnowledgeChoiceProps) {
  const [isOpen, setOpen] = useState(false);
  return (
    <div className="composer-foot">
      <DropdownMenu.Root modal={false} open={isOpen} onOpenChange={setOpen}>
        <DropdownMenu.Trigger
          className="knowledge-choice"
          data-chosen={value !== "" || undefined}
          aria-label={`Knowledge: ${value || "none"}`}
        >
          <BookOpen size={14} aria-hidden />
          <span className="clip">{value || "Knowledge"}</span>
          <ChevronDown size={13} aria-hidden />
        </DropdownMenu.Trigger>
        <DropdownMenu.Portal>
          <DropdownMenu.Content className="menu knowledge-menu" side="top" align="start" sideOffset={6}>
            <Options value={value} onChange={onChange} />
          </DropdownMenu.Content>
        </DropdownMenu.Portal>
      </DropdownMenu.Root>
    </div>
  );
}

function Options({ value, onChange }: KnowledgeChoiceProps) {
  const list = useQuery(collectionsQuery);
  const collections = list.data?.collections ?? [];
  const { preparing, missing } = list.data ?? {};
  return (
    <>
      <DropdownMenu.RadioGroup value={value} onValueChange={onChange}>
        <Option name="" text="None" detail="the model alone" />
        {collections.map(({ name, num_documents: count }) => (
          <Option key={name} name={name} text={name} detail={counted(count, "document")} />
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
