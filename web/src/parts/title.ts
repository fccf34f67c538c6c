import { useEffect } from "react";

/** The browser tab's title while a room is open. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · Cairn` : "Cairn";
  }, [title]);
}
