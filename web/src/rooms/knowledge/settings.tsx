/** How a collection cuts, finds and watches itself. The server knows the bounds, and says which is wrong. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { sendJson } from "../../api/client";
import { COLLECTION_KEYS, collectionPath } from "../../api/knowledge";
import type { Collection, CollectionSettings } from "../../api/types";
import { Choice } from "../../parts/filter";
import { FormModal } from "../../parts/form-modal";
import { notify } from "../../parts/toasts";

type Name = keyof CollectionSettings;

interface NumberSetting {
  name: Exclude<Name, "fusion" | "graph">;
  label: string;
  hint: string;
  step: number;
  most?: number;
}

const CUTTING: readonly NumberSetting[] = [
  { name: "chunk_tokens", label: "Tokens of a passage", hint: "0: as many as the embedder reads", step: 1 },
  { name: "overlap_tokens", label: "Tokens repeated", hint: "from the passage before", step: 1 },
  {
    name: "least_confidence",
    label: "Least trust in a page",
    hint: "below it is not indexed",
    step: 0.05,
    most: 1,
  },
];
const FINDING: readonly NumberSetting[] = [
  { name: "candidates", label: "Candidates", hint: "of words and of meaning each", step: 1, most: 10_000 },
  { name: "feedback", label: "Feedback", hint: "towards the best two; 0: none", step: 0.1, most: 10 },
  { name: "reranked", label: "Passages reranked", hint: "0: the reranker is off", step: 1 },
  { name: "diversity", label: "Diversity", hint: "what like passages lose", step: 0.05, most: 1 },
];
const WATCHING: readonly NumberSetting[] = [
  {
    name: "recall_share",
    label: "Searches compared",
    hint: "share held against an exact one",
    step: 0.01,
    most: 1,
  },
  { name: "least_recall", label: "Least recall", hint: "less raises an alarm", step: 0.01, most: 1 },
  {
    name: "keep_queries",
    label: "Queries kept",
    hint: "the newest, without who asked",
    step: 1,
    most: 10_000,
  },
];
const FUSIONS = [
  ["calibrated", "by score"],
  ["reciprocal", "by rank"],
] as const;

const WALKS = [
  ["false", "no"],
  ["true", "by statistics"],
  ["model", "by a chat model"],
] as const;

export function SettingsDialog({ collection, onClose }: { collection: Collection; onClose: () => void }) {
  const [settings, setSettings] = useState<CollectionSettings>(collection.settings);
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: () => sendJson<Collection>("PATCH", collectionPath(collection.id), { settings }),
    onSuccess: () => {
      for (const key of COLLECTION_KEYS) void client.invalidateQueries({ queryKey: [key] });
      notify(`The settings of ${collection.name} are changed`);
      onClose();
    },
  });
  const numbers = (fields: readonly NumberSetting[]) =>
    fields.map((field) => (
      <NumberRow
        key={field.name}
        field={field}
        value={settings[field.name]}
        onChange={(value) => setSettings({ ...settings, [field.name]: value })}
      />
    ));
  return (
    <FormModal
      title={`Settings of ${collection.name}`}
      does="Save"
      order={save}
      failed="Not changed"
      onClose={onClose}
    >
      <fieldset className="settings">
        <legend className="label">Passages</legend>
        <p className="small soft">Holds for documents that are put in from now on.</p>
        {numbers(CUTTING)}
      </fieldset>
      <fieldset className="settings">
        <legend className="label">Search</legend>
        {numbers(FINDING)}
        <div className="setting">
          <span>
            Fusion <span className="small faint">of words and meaning</span>
          </span>
          <Choice
            label="Fusion"
            value={settings.fusion}
            onChange={(value) => setSettings({ ...settings, fusion: value as CollectionSettings["fusion"] })}
            options={FUSIONS}
          />
        </div>
        <div className="setting">
          <span>
            Walk <span className="small faint">over what passages speak of</span>
          </span>
          <Choice
            label="Walk"
            value={String(settings.graph)}
            onChange={(value) =>
              setSettings({ ...settings, graph: value === "model" ? value : value === "true" })
            }
            options={WALKS}
          />
        </div>
      </fieldset>
      <fieldset className="settings">
        <legend className="label">Watch</legend>
        {numbers(WATCHING)}
      </fieldset>
    </FormModal>
  );
}

interface NumberRowProps {
  field: NumberSetting;
  value: number;
  onChange: (value: number) => void;
}

function NumberRow({ field: { label, hint, step, most }, value, onChange }: NumberRowProps) {
  const id = useId();
  return (
    <div className="setting">
      <label htmlFor={id}>
        {label} <span className="small faint">{hint}</span>
      </label>
      <input
        id={id}
        type="number"
        className="field numbers"
        inputMode={step < 1 ? "decimal" : "numeric"}
        required
        min={0}
        max={most}
        step={step < 1 ? "any" : 1}
        defaultValue={value}
        onChange={(event) => {
          if (!Number.isNaN(event.target.valueAsNumber)) onChange(event.target.valueAsNumber);
        }}
      />
    </div>
  );
}
