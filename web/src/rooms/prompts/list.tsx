/** Saved prompts: one's own, and those that are offered to everyone. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Pencil, Plus, Trash2 } from "lucide-react";
import { useState } from "react";
import { sendJson, told } from "../../api/client";
import { promptsQuery } from "../../api/organising";
import { sessionQuery } from "../../api/queries";
import type { Prompt } from "../../api/types";
import { formatWhen, matches } from "../../format";
import { Filter } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Table } from "../../parts/table";
import { notify } from "../../parts/toasts";
import { Editor } from "./editor";

import "./prompts.css";

export function PromptsRoom() {
  const { q = "" } = useSearch({ from: "/house/prompts" });
  const navigate = useNavigate({ from: "/prompts" });
  const list = useQuery(promptsQuery);
  const [edited, setEdited] = useState<Prompt | "new" | null>(null);
  const all = list.data ?? [];
  const shown = all.filter(({ name, content, owner }) => matches(q, name, content, owner));
  return (
    <Room
      title="Prompts"
      tools={
        <>
          <Filter
            label="Filter by name, text or owner"
            value={q}
            onChange={(text) => void navigate({ search: { q: text }, replace: true })}
          />
          <button type="button" className="button primary" onClick={() => setEdited("new")}>
            <Plus size={16} aria-hidden />
            New prompt
          </button>
        </>
      }
    >
      <QueryState query={list} what="The prompts" count={shown.length} isFiltered={all.length > 0}>
        <p>No prompt is saved yet.</p>
        <p>Save what you write again and again. In a chat, typing / brings it back.</p>
      </QueryState>
      {shown.length > 0 ? (
        <Table
          className="prompt-table"
          columns={[
            "Prompt",
            { head: "Whose", isWide: true },
            { head: "Changed", isRight: true, isWide: true },
            { head: <span className="hidden-visually">Actions</span> },
          ]}
        >
          {shown.map((prompt) => (
            <PromptRow key={prompt.prompt_id} prompt={prompt} onEdit={() => setEdited(prompt)} />
          ))}
        </Table>
      ) : null}
      {edited ? (
        <Editor {...(edited === "new" ? {} : { prompt: edited })} onClose={() => setEdited(null)} />
      ) : null}
    </Room>
  );
}

function PromptRow({ prompt, onEdit }: { prompt: Prompt; onEdit: () => void }) {
  const { prompt_id: id, name, content, is_shared: isShared, owner } = prompt;
  const me = useQuery(sessionQuery).data?.user_id;
  const client = useQueryClient();
  const onSettled = () => client.invalidateQueries({ queryKey: promptsQuery.queryKey });
  const onError = (error: Error) => notify(told(error));
  const bringBack = useMutation({
    mutationFn: () => sendJson("POST", "/api/prompts", { name, content, is_shared: isShared }),
    onSettled,
    onError,
  });
  const remove = useMutation({
    mutationFn: () => sendJson("DELETE", `/api/prompts/${encodeURIComponent(id)}`),
    onSuccess: () => notify(`Deleted “${name}”`, () => bringBack.mutate()),
    onSettled,
    onError,
  });
  return (
    <tr>
      <td>
        <strong>{name}</strong>
        {isShared ? <span className="tag beside">for everyone</span> : null}
        <span className="prompt-start small soft">{content.replace(/\s+/g, " ")}</span>
      </td>
      <td className="wide-only soft">{owner === me ? "you" : owner}</td>
      <td className="right numbers soft wide-only">{formatWhen(prompt.updated_at)}</td>
      <td className="right nowrap">
        {prompt.may_change ? (
          <>
            <button
              type="button"
              className="icon-button tight"
              aria-label={`Change ${name}`}
              title="Change"
              onClick={onEdit}
            >
              <Pencil size={15} aria-hidden />
            </button>
            <button
              type="button"
              className="icon-button tight"
              aria-label={`Delete ${name}`}
              title="Delete"
              onClick={() => remove.mutate()}
            >
              <Trash2 size={15} aria-hidden />
            </button>
          </>
        ) : null}
      </td>
    </tr>
  );
}
