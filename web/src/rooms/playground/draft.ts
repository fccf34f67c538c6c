/** What is being tried, kept by the browser: a reload loses nothing. */
import { useCallback, useState, useSyncExternalStore } from "react";
import { recall, remember } from "../../storage";
import { type Answer, answers, type Side } from "./answers";
import { DEFAULT_SETTINGS, type DraftMessage, type Settings } from "./request";

export interface Draft {
  messages: DraftMessage[];
  /** One, or two that are compared. */
  sides: Settings[];
}

const EMPTY: Draft = {
  messages: [
    { role: "system", content: "" },
    { role: "user", content: "" },
  ],
  sides: [DEFAULT_SETTINGS],
};

export function useDraft() {
  const [draft, setState] = useState(load);
  const setDraft = useCallback((next: Draft) => {
    remember("playground", next);
    setState(next);
  }, []);
  return [draft, setDraft] as const;
}

export function emptyDraft(draft: Draft): Draft {
  return { ...EMPTY, sides: draft.sides.slice(0, 1).map(({ model }) => ({ ...DEFAULT_SETTINGS, model })) };
}

/** What was kept by an earlier version may lack a setting. */
function load(): Draft {
  const kept = recall<Partial<Draft>>("playground", {});
  const sides = (kept.sides ?? []).slice(0, 2).map((side) => ({ ...DEFAULT_SETTINGS, ...side }));
  return {
    messages: kept.messages?.length ? kept.messages : EMPTY.messages,
    sides: sides.length > 0 ? sides : EMPTY.sides,
  };
}

export function useAnswer(side: Side): Answer | null {
  return useSyncExternalStore(answers.subscribe, () => answers.of(side));
}

export function useIsBusy(): boolean {
  return useSyncExternalStore(answers.subscribe, () => answers.isBusy());
}
