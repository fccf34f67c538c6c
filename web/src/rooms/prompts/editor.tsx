/** A prompt as it is written and changed. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { sendJson } from "../../api/client";
import { useMay } from "../../api/identity";
import { promptsQuery } from "../../api/organising";
import type { Prompt } from "../../api/types";
import { FormModal } from "../../parts/form-modal";
import { TextField } from "../../parts/text-field";

import "./prompts.css";

interface EditorProps {
  /** The one to change; without one a new one is made. */
  prompt?: Prompt;
  onClose: () => void;
}

export function Editor({ prompt, onClose }: EditorProps) {
  const [name, setName] = useState(prompt?.name ?? "");
  const [content, setContent] = useState(prompt?.content ?? "");
  const [isShared, setShared] = useState(prompt?.is_shared ?? false);
  const mayShare = useMay()("share_prompts");
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: () => {
      const body = { name, content, is_shared: isShared };
      return prompt
        ? sendJson("PATCH", `/api/prompts/${encodeURIComponent(prompt.prompt_id)}`, body)
        : sendJson("POST", "/api/prompts", body);
    },
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: promptsQuery.queryKey });
      onClose();
    },
  });
  return (
    <FormModal
      title={prompt ? "Change the prompt" : "New prompt"}
      does="Save it"
      order={save}
      failed="Not saved"
      isReady={name.trim() !== "" && content !== ""}
      onClose={onClose}
    >
      <TextField label="Name" value={name} onChange={setName} maxLength={100} />
      <label>
        <span className="label">Text</span>
        <textarea
          className="field prompt-text"
          rows={6}
          value={content}
          onChange={(event) => setContent(event.target.value)}
        />
      </label>
      <p className="small soft">
        What stands in double braces, such as <code>{"{{language}}"}</code>, is asked for when the prompt is
        used.
      </p>
      {mayShare ? (
        <label className="check">
          <input type="checkbox" checked={isShared} onChange={(event) => setShared(event.target.checked)} />
          Offer it to everyone on this server
        </label>
      ) : null}
    </FormModal>
  );
}
