/** Conversations as files: what is on show of one, and downloads. */
import type { QueryClient } from "@tanstack/react-query";
import { conversationQuery } from "../../api/queries";
import { recall } from "../../storage";
import { type Picks, pathOf } from "./tree";

/** The last turn of the versions that this browser shows of a conversation; undefined when it is empty. */
export async function shownLast(client: QueryClient, id: string): Promise<string | undefined> {
  const { messages } = await client.fetchQuery({ ...conversationQuery(id), staleTime: 0 });
  return pathOf(messages, recall<Picks>(`picks.${id}`, {})).at(-1)?.turn.id;
}

/** Lets the browser keep what an address answers. */
export function download(path: string, query: Record<string, string | undefined>): void {
  const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined);
  const anchor = document.createElement("a");
  anchor.href = `${path}?${new URLSearchParams(given)}`;
  anchor.download = "";
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
}
