/** Limits and budgets: how much is left; administrators set and remove them. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { useState } from "react";
import { sendJson, told } from "../../api/client";
import type { Limit, LimitBody } from "../../api/types";
import { limitsQuery } from "../../api/usage";
import { formatCount, formatDuration } from "../../format";
import { Meter } from "../../parts/meter";
import { QueryState } from "../../parts/query-state";
import { notify } from "../../parts/toasts";
import { LimitForm } from "./limit-form";
import { formatMoney } from "./series";

export function Limits({ isAdmin }: { isAdmin: boolean }) {
  const limits = useQuery(limitsQuery);
  const [edited, setEdited] = useState<Limit | "new" | null>(null);
  const data = limits.data?.data ?? [];
  return (
    <section className="section" aria-labelledby="limits">
      <div className="section-head">
        <h2 id="limits">Limits and budgets</h2>
        {isAdmin ? (
          <button type="button" className="button" aria-haspopup="dialog" onClick={() => setEdited("new")}>
            <Plus size={15} aria-hidden />
            Set a limit
          </button>
        ) : null}
      </div>
      <QueryState query={limits} what="The limits" lines={3} count={data.length}>
        <p>{isAdmin ? "Nobody is limited." : "No limit holds for you."}</p>
      </QueryState>
      {data.length > 0 ? (
        <ul role="list" className="usage-limits">
          {data.map((limit) => (
            <LimitRow
              key={limit.id}
              limit={limit}
              currency={limits.data?.currency ?? "USD"}
              onEdit={isAdmin ? () => setEdited(limit) : undefined}
            />
          ))}
        </ul>
      ) : null}
      {edited ? (
        <LimitForm
          limit={edited === "new" ? null : edited}
          currency={limits.data?.currency ?? "USD"}
          onClose={() => setEdited(null)}
        />
      ) : null}
    </section>
  );
}

interface LimitRowProps {
  limit: Limit;
  currency: string;
  onEdit: (() => void) | undefined;
}

function LimitRow({ limit, currency, onEdit }: LimitRowProps) {
  const client = useQueryClient();
  const refresh = () => void client.invalidateQueries({ queryKey: limitsQuery.queryKey });
  const remove = useMutation({
    mutationFn: () => sendJson("DELETE", `/api/limits/${limit.id}`),
    onSuccess: () =>
      notify(`The limit of ${whoText(limit)} is removed`, () => {
        sendJson("PUT", "/api/limits", bodyOf(limit)).then(refresh, (error) => notify(told(error)));
      }),
    onError: (error) => notify(told(error)),
    onSettled: refresh,
  });
  return (
    <li>
      <div>
        <strong>{whoText(limit)}</strong>
        <span className="small soft">{whatText(limit, currency)}</span>
      </div>
      <Standing limit={limit} currency={currency} />
      {onEdit ? (
        <div className="usage-limit-tools">
          <button type="button" className="button" aria-haspopup="dialog" onClick={onEdit}>
            Change
          </button>
          <button
            type="button"
            className="button"
            disabled={remove.isPending}
            onClick={() => remove.mutate()}
          >
            Remove
          </button>
        </div>
      ) : null}
    </li>
  );
}

function Standing({ limit, currency }: { limit: Limit; currency: string }) {
  const { standing, amount, metric } = limit;
  if (!standing) return <span className="small faint">counted for each by itself</span>;
  const used = standing.used + (standing.reserved ?? 0);
  const share = amount > 0 ? Math.min(100, (100 * used) / amount) : 100;
  const show = (value: number) => (metric === "money" ? formatMoney(value, currency) : formatCount(value));
  const left = Math.max(0, amount - used);
  const again =
    standing.resets_in !== null && standing.resets_in !== undefined
      ? `, anew in ${formatDuration(standing.resets_in)}`
      : "";
  const text = `${show(left)} of ${show(amount)} left${again}`;
  return (
    <div className="usage-standing">
      <Meter
        label={`Used by ${whoText(limit)}`}
        text={text}
        share={share}
        state={used >= amount ? "spent" : share >= 80 ? "near" : undefined}
      />
      <span className="small numbers">{text}</span>
    </div>
  );
}

export function bodyOf({ kind, name, model, metric, window, amount, action }: Limit): LimitBody {
  return { kind, name, model, metric, window, amount, action };
}

function whoText({ kind, name, model }: Limit): string {
  const each = { user: "Each person", group: "Each group", key: "Each key", all: "Everybody" }[kind];
  const who = kind === "all" || name === "*" ? each : kind === "user" ? name : `${kind} ${name}`;
  return model ? `${who}, on ${model}` : who;
}

function whatText({ metric, window, amount, action }: Limit, currency: string): string {
  if (metric === "concurrent") return `${formatCount(amount)} requests at a time`;
  const much = metric === "money" ? formatMoney(amount, currency) : `${formatCount(amount)} ${metric}`;
  const when = window === "total" ? "in all" : `per ${window}`;
  return `${much} ${when}${action === "warn" ? ", then a warning" : ""}`;
}
