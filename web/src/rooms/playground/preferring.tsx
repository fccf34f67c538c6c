/** Of two answers the better one, kept with the receipts that made them. */
import { queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { ThumbsUp } from "lucide-react";
import { getJson, sendJson, told } from "../../api/client";
import type { PreferenceList } from "../../api/types";
import { notify } from "../../parts/toasts";
import { type Answer, SIDES } from "./answers";
import { useAnswer } from "./draft";

const preferencesQuery = (receipt: string) =>
  queryOptions({
    queryKey: ["preferences", receipt],
    queryFn: ({ signal }) =>
      getJson<PreferenceList>(`/api/preferences?receipt=${encodeURIComponent(receipt)}`, signal),
    enabled: receipt !== "",
  });

export function Preferring() {
  const [a, b] = [useAnswer(SIDES[0]), useAnswer(SIDES[1])];
  if (!isWhole(a) || !isWhole(b)) return null;
  return <Choices receipts={[a.receiptId, b.receiptId]} />;
}

function isWhole(answer: Answer | null): answer is Answer {
  return (
    answer !== null && answer.receiptId !== "" && (answer.phase === "done" || answer.phase === "stopped")
  );
}

function Choices({ receipts }: { receipts: readonly [string, string] }) {
  const client = useQueryClient();
  const query = preferencesQuery(receipts[0]);
  const said = useQuery(query).data?.data ?? [];
  const chosen = said.find(
    (each) => receipts.includes(each.chosen) && receipts.includes(each.rejected),
  )?.chosen;
  const prefer = useMutation({
    mutationFn: (better: string | null) =>
      sendJson<PreferenceList>("POST", "/api/preferences", { receipts, better }),
    onSuccess: (data) => client.setQueryData(query.queryKey, data),
    onError: (error) => notify(told(error)),
  });
  return (
    <fieldset className="play-better">
      <legend className="hidden-visually">Which answer is better</legend>
      {receipts.map((receipt, place) => (
        <button
          key={receipt}
          type="button"
          className="button"
          aria-pressed={chosen === receipt}
          disabled={prefer.isPending}
          onClick={() => prefer.mutate(chosen === receipt ? null : receipt)}
        >
          <ThumbsUp size={15} fill={chosen === receipt ? "currentColor" : "none"} aria-hidden />
          {place === 0 ? "A is better" : "B is better"}
        </button>
      ))}
    </fieldset>
  );
}
