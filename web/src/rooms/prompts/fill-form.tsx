/** What a prompt's variables stand for, asked before it is written. */
import { useState } from "react";
import type { Prompt } from "../../api/types";
import { FormModal } from "../../parts/form-modal";
import { filled } from "./filling";

import "./prompts.css";

interface FillFormProps {
  prompt: Prompt;
  onDone: (text: string) => void;
  onClose: () => void;
}

export function FillForm({ prompt, onDone, onClose }: FillFormProps) {
  const [values, setValues] = useState<Record<string, string>>({});
  const write = () =>
    onDone(
      filled(prompt.content, Object.fromEntries(prompt.variables.map((name) => [name, values[name] ?? ""]))),
    );
  const order = { mutate: write, isPending: false, isError: false, error: null };
  return (
    <FormModal title={prompt.name} does="Write it" order={order} failed="" onClose={onClose}>
      {prompt.variables.map((name) => (
        <label key={name}>
          <span className="label">{name}</span>
          <textarea
            className="field prompt-value"
            rows={1}
            value={values[name] ?? ""}
            onChange={(event) => setValues({ ...values, [name]: event.target.value })}
            onKeyDown={(event) => {
              if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
              event.preventDefault();
              event.currentTarget.form?.requestSubmit();
            }}
          />
        </label>
      ))}
    </FormModal>
  );
}
