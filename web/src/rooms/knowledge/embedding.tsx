/** The models that embed a collection, and how well its index finds what they put there. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { sendJson } from "../../api/client";
import { COLLECTION_KEYS, collectionPath, embeddingQuery } from "../../api/knowledge";
import type { Collection, Embedding, WorkAction } from "../../api/types";
import { counted } from "../../format";
import { Choice } from "../../parts/filter";
import { Modal } from "../../parts/modal";
import { Problem } from "../../parts/problem";
import { QueryState } from "../../parts/query-state";

interface Order {
  action: WorkAction;
  embedder?: string;
}

const ROLES: Record<string, string> = {
  active: "answers",
  next: "is filled",
  previous: "answered before",
};
const DOING: Record<WorkAction, string> = {
  embed: "Passages are embedded",
  switch: "The other one takes over",
  rollback: "The one before takes over",
  drop: "The others are let go",
  check: "The index is checked",
  rebuild: "The index is made anew",
};

export function EmbeddingDialog({ collection, onClose }: { collection: Collection; onClose: () => void }) {
  const client = useQueryClient();
  const found = useQuery(embeddingQuery(collection.id));
  const start = useMutation({
    mutationFn: (order: Order) =>
      sendJson<Embedding>("POST", `${collectionPath(collection.id)}/embedding`, order),
    onSuccess: (now) => client.setQueryData(embeddingQuery(collection.id).queryKey, now),
  });
  const isOver = found.data?.work?.is_over;
  useEffect(() => {
    if (isOver) for (const key of COLLECTION_KEYS) void client.invalidateQueries({ queryKey: [key] });
  }, [isOver, client]);
  const { data } = found;
  return (
    <Modal title={`Embedder and index of ${collection.name}`} onClose={onClose}>
      <div className="modal-form">
        <QueryState query={found} what="The embedders" lines={4} />
        {data ? <Spaces data={data} onStart={(order) => start.mutate(order)} /> : null}
        {data ? <Recall data={data} onStart={(order) => start.mutate(order)} /> : null}
        {data?.work ? <WorkNote work={data.work} /> : null}
        {start.isError ? <Problem error={start.error} what="Not begun" /> : null}
        <div className="modal-buttons">
          <button type="button" className="button" onClick={onClose}>
            Close
          </button>
        </div>
      </div>
    </Modal>
  );
}

interface PartProps {
  data: Embedding;
  onStart: (order: Order) => void;
}

function Spaces({ data: { spaces, embedders, work }, onStart }: PartProps) {
  const isBusy = work !== null && !work.is_over;
  const next = spaces.find(({ role }) => role === "next");
  const previous = spaces.find(({ role }) => role === "previous");
  const isWhole = next !== undefined && next.num_done === next.num_passages;
  return (
    <section aria-label="Embedders" className="spaces">
      <ul role="list" className="label-list">
        {spaces.map(({ role, embedder, num_done: done, num_passages: total }) => (
          <li key={role} className="label-row">
            <span className="clip" title={embedder}>
              {embedder}
            </span>
            <span className="small soft numbers">
              {done < total
                ? `${done.toLocaleString("en-GB")} of ${counted(total, "passage")}`
                : role === "next"
                  ? "ready to answer"
                  : ROLES[role]}
            </span>
            {done < total ? (
              <progress value={done} max={total} aria-label={`Passages of ${embedder}`} />
            ) : null}
          </li>
        ))}
      </ul>
      {spaces.length === 0 ? <p className="small soft">Nothing is embedded yet.</p> : null}
      <div className="space-buttons">
        {next && !isWhole && !isBusy ? (
          <button type="button" className="button" onClick={() => onStart({ action: "embed" })}>
            Go on
          </button>
        ) : null}
        {isWhole ? (
          <button
            type="button"
            className="button primary"
            disabled={isBusy}
            onClick={() => onStart({ action: "switch" })}
          >
            Let {next.embedder} answer
          </button>
        ) : null}
        {previous ? (
          <button
            type="button"
            className="button"
            disabled={isBusy}
            onClick={() => onStart({ action: "rollback" })}
          >
            Back to {previous.embedder}
          </button>
        ) : null}
        {next || previous ? (
          <button
            type="button"
            className="button danger"
            disabled={isBusy && work.action !== "embed"}
            onClick={() => onStart({ action: "drop" })}
          >
            Let {next ? next.embedder : previous?.embedder} go
          </button>
        ) : null}
      </div>
      {spaces.length > 0 && !next ? (
        <Another embedders={embedders} isBusy={isBusy} onStart={onStart} />
      ) : null}
    </section>
  );
}

function Another({
  embedders,
  isBusy,
  onStart,
}: {
  embedders: readonly string[];
  isBusy: boolean;
  onStart: (order: Order) => void;
}) {
  const [chosen, setChosen] = useState("");
  const embedder = chosen || embedders[0];
  if (embedder === undefined) {
    return (
      <p className="small soft">
        No other model that embeds is here: <code>cairn import PATH --name NAME</code>
      </p>
    );
  }
  return (
    <div className="add-label">
      <Choice
        label="Another embedder"
        value={embedder}
        onChange={setChosen}
        options={embedders.map((each) => [each, each] as const)}
      />
      <button
        type="button"
        className="button"
        disabled={isBusy}
        onClick={() => onStart({ action: "embed", embedder })}
      >
        Embed with it too
      </button>
    </div>
  );
}

function Recall({ data: { recall, spaces, work }, onStart }: PartProps) {
  const isBusy = work !== null && !work.is_over;
  if (spaces.length === 0) return null;
  return (
    <section aria-label="Index" className="spaces">
      {recall ? (
        <p className="numbers">
          The search finds <strong>{(100 * recall.recall).toFixed(1)} %</strong> of the nearest passages{" "}
          <span className="small faint">
            over {counted(recall.num_samples, "sample")}; {(100 * recall.least).toFixed(0)} % is asked
          </span>
        </p>
      ) : (
        <p className="soft">Nothing has been measured yet.</p>
      )}
      {recall?.is_low ? (
        <p className="warning" role="status">
          That is too few. A new index mends it.
        </p>
      ) : null}
      <div className="space-buttons">
        <button
          type="button"
          className="button"
          disabled={isBusy}
          onClick={() => onStart({ action: "check" })}
        >
          Check the index
        </button>
        <button
          type="button"
          className="button"
          disabled={isBusy}
          onClick={() => onStart({ action: "rebuild" })}
        >
          Make it anew
        </button>
      </div>
    </section>
  );
}

function WorkNote({ work }: { work: NonNullable<Embedding["work"]> }) {
  if (work.problem) return <Problem error={work.problem} what={`${DOING[work.action]}: not done`} />;
  if (!work.is_over) {
    return (
      <p className="small soft" role="status">
        {DOING[work.action]}. That goes on when this is closed.
      </p>
    );
  }
  return work.message ? (
    <p className="small soft" role="status">
      Checked: {work.message}.
    </p>
  ) : null;
}
