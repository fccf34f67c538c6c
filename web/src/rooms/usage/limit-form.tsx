/** Setting a limit or a budget. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { sendJson } from "../../api/client";
import type { Limit, LimitBody } from "../../api/types";
import { limitsQuery } from "../../api/usage";
import { Choice } from "../../parts/filter";
import { FormModal } from "../../parts/form-modal";
import { TextField } from "../../parts/text-field";
import { notify } from "../../parts/toasts";
import { bodyOf } from "./limits";

const KINDS = [
  ["user", "Person"],
  ["group", "Group"],
  ["key", "Key"],
  ["all", "Everybody"],
] as const;
const METRICS = [
  ["requests", "Requests"],
  ["tokens", "Tokens"],
  ["concurrent", "Requests at a time"],
  ["money", "Money"],
] as const;
const WINDOWS = {
  requests: ["minute", "hour", "day"],
  tokens: ["minute", "hour", "day"],
  concurrent: [""],
  money: ["month", "day", "total"],
} as const;
const EMPTY: LimitBody = {
  kind: "user",
  name: "*",
  model: "",
  metric: "requests",
  window: "minute",
  amount: 60,
  action: "stop",
};
const MICRO = 1_000_000;

interface LimitFormProps {
  /** What is changed; null: a new one. */
  limit: Limit | null;
  currency: string;
  onClose: () => void;
}

export function LimitForm({ limit, currency, onClose }: LimitFormProps) {
  const [body, setBody] = useState<LimitBody>(limit ? bodyOf(limit) : EMPTY);
  const [amount, setAmount] = useState(String(body.metric === "money" ? body.amount / MICRO : body.amount));
  const client = useQueryClient();
  const isMoney = body.metric === "money";
  const value = Math.round(Number(amount) * (isMoney ? MICRO : 1));
  const save = useMutation({
    mutationFn: () => sendJson("PUT", "/api/limits", { ...body, amount: value }),
    onSuccess: () => {
      notify("The limit holds from now on");
      void client.invalidateQueries({ queryKey: limitsQuery.queryKey });
      onClose();
    },
  });
  const change = (values: Partial<LimitBody>) => setBody((old) => ({ ...old, ...values }));
  const windows: readonly string[] = WINDOWS[body.metric];
  return (
    <FormModal
      title={limit ? "Change a limit" : "Set a limit"}
      does="Set"
      order={save}
      failed="Not set"
      onClose={onClose}
      isReady={amount.trim() !== "" && Number.isFinite(value) && value >= 0}
      className="usage-form"
    >
      {limit ? null : (
        <>
          <div className="usage-fields">
            <div>
              <span className="label">Whose use counts</span>
              <Choice
                label="Whose use counts"
                value={body.kind}
                onChange={(kind) =>
                  change({ kind: kind as LimitBody["kind"], name: kind === "all" ? "" : "*" })
                }
                options={KINDS}
              />
            </div>
            {body.kind === "all" ? null : (
              <TextField
                label={body.kind === "key" ? "Key id, * for each" : "Name, * for each"}
                value={body.name ?? ""}
                onChange={(name) => change({ name })}
              />
            )}
            <TextField
              label="Model, empty for any"
              value={body.model ?? ""}
              onChange={(model) => change({ model })}
            />
          </div>
          <div>
            <span className="label">What is counted</span>
            <Choice
              label="What is counted"
              value={body.metric}
              onChange={(text) => {
                const metric = text as LimitBody["metric"];
                change({ metric, window: WINDOWS[metric][0], action: "stop" });
              }}
              options={METRICS}
            />
          </div>
        </>
      )}
      <div className="usage-fields">
        <TextField
          label={isMoney ? `Amount in ${currency}` : "Amount"}
          value={amount}
          onChange={setAmount}
          inputMode="decimal"
        />
        {windows[0] === "" || limit ? null : (
          <div>
            <span className="label">In each</span>
            <Choice
              label="In each"
              value={body.window ?? ""}
              onChange={(window) => change({ window: window as NonNullable<LimitBody["window"]> })}
              options={windows.map((name) => [name, name === "total" ? "in all" : name] as const)}
            />
          </div>
        )}
        {isMoney && !limit ? (
          <div>
            <span className="label">Beyond it</span>
            <Choice
              label="Beyond it"
              value={body.action ?? "stop"}
              onChange={(action) => change({ action: action as NonNullable<LimitBody["action"]> })}
              options={[
                ["stop", "Requests are refused"],
                ["warn", "A warning only"],
              ]}
            />
          </div>
        ) : null}
      </div>
    </FormModal>
  );
}
