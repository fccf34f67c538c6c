/** Which models are in memory and what they take; administrators bring them in and let them go. */

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { sendJson, told } from "../../api/client";
import { memoryQuery, modelsQuery, sessionQuery } from "../../api/queries";
import type { Memory, ModelMemory } from "../../api/types";
import { formatMoment, formatSize, formatWhen } from "../../format";
import { Meter } from "../../parts/meter";
import { notify } from "../../parts/toasts";

export function MemoryMeter() {
  const memory = useQuery(memoryQuery).data;
  if (!memory) return null;
  const share = Math.min(100, (100 * memory.held) / Math.max(1, memory.budget));
  const text = `Models take ${formatSize(memory.held)} of ${formatSize(memory.budget)}`;
  return (
    <div className="memory-meter">
      <Meter label="Memory for models" text={text} share={share} />
      <span className="numbers">{text}</span>
    </div>
  );
}

/** The state of the model that an artifact is; nothing for artifacts that do not answer. */
export function MemoryCell({ digest }: { digest: string }) {
  const model = useQuery(memoryQuery).data?.models.find((each) => each.digest === digest);
  if (!model) return null;
  return (
    <div className="memory">
      <span className="memory-state">
        <span>
          <State model={model} />
        </span>
        {model.pinned ? (
          <span className="tag" title="Stays in memory once it is loaded">
            pinned
          </span>
        ) : null}
      </span>
      <MoveButton model={model} />
    </div>
  );
}

function State({ model }: { model: ModelMemory }) {
  if (model.state === "unloaded") return <span className="faint">not loaded</span>;
  if (model.state === "loading") return <span className="soft">{model.loading || "loading"}</span>;
  return (
    <>
      <span className="numbers">{formatSize(model.resident_bytes)}</span>
      <span className="soft">{usage(model)}</span>
    </>
  );
}

function usage({ num_requests: count, last_used: at }: ModelMemory) {
  if (count > 0) return `, answers ${count === 1 ? "a request" : `${count} requests`}`;
  if (at === null) return "";
  return <span title={formatMoment(at)}>, used {formatWhen(at)}</span>;
}

/** Load or Unload, for those who may. */
function MoveButton({ model }: { model: ModelMemory }) {
  const client = useQueryClient();
  const mayMove = useQuery(sessionQuery).data?.roles.includes("admin") ?? false;
  const verb = model.state === "loaded" ? "unload" : "load";
  const move = useMutation({
    mutationFn: () => sendJson("POST", `/api/models/${verb}`, { model: model.name }),
    onMutate: () => {
      if (verb === "load")
        client.setQueryData(memoryQuery.queryKey, (old) => old && withLoading(old, model.digest));
    },
    onError: (error) => notify(told(error)),
    onSettled: () => {
      void client.invalidateQueries({ queryKey: memoryQuery.queryKey });
      void client.invalidateQueries({ queryKey: modelsQuery.queryKey });
    },
  });
  if (!mayMove || model.state === "loading") return null;
  return (
    <button
      type="button"
      className="button above"
      disabled={move.isPending || model.num_requests > 0}
      title={model.num_requests > 0 ? "It is answering" : undefined}
      aria-label={`${verb === "load" ? "Load" : "Unload"} ${model.name}`}
      onClick={() => move.mutate()}
    >
      {verb === "load" ? "Load" : "Unload"}
    </button>
  );
}

/** The server answers when the model is in memory; until it is asked again, it is loading. */
function withLoading(memory: Memory, digest: string): Memory {
  const models = memory.models.map((model) =>
    model.digest === digest ? { ...model, state: "loading" as const } : model,
  );
  return { ...memory, models };
}
