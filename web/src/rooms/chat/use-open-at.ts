/** Brings a turn into view that a link or a search asks for, whichever version of the conversation it stands in. */
import { useEffect } from "react";
import type { Chat } from "./use-chat";

export function useOpenAt(
  wanted: string | undefined,
  { conversation, path, show }: Chat,
  letGo: () => void,
  onOpened: () => void,
): void {
  const isShown = path.some(({ turn }) => turn.id === wanted);
  useEffect(() => {
    if (wanted === undefined || !conversation) return;
    const turn = conversation.messages.find(({ id }) => id === wanted);
    if (turn && !isShown) {
      show(turn);
      return;
    }
    const element = turn && document.getElementById(wanted);
    if (element) {
      letGo();
      element.scrollIntoView({ block: "center" });
      element.focus({ preventScroll: true });
    }
    onOpened();
  }, [wanted, conversation, isShown, show, letGo, onOpened]);
}
