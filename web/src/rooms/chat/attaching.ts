/** Files that are being put beside a message, by conversation. What was read is remembered until it is sent. */
import { type QueryClient, queryOptions } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";
import { ApiError, getJson, send, sendJson } from "../../api/client";
import type { Attachment, AttachmentText, Collection, Turn } from "../../api/types";
import { forget, recall, remember } from "../../storage";

export interface Attached {
  key: number;
  name: string;
  /** Null while it is being read, and of one that was refused. */
  entry: Attachment | null;
  error: unknown;
  /** Of one that is too long to go with a message whole. */
  file: File | null;
  /** The collection that it is put into instead. */
  collection: Pick<Collection, "ref" | "name"> | null;
}

const NONE: readonly Attached[] = [];

class Attaching {
  #lists = new Map<string, readonly Attached[]>();
  #listeners = new Set<() => void>();
  #lastKey = 0;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  of(conversationId: string | null): readonly Attached[] {
    const name = keyOf(conversationId);
    const known = this.#lists.get(name);
    if (known) return known;
    const kept = recall<Attachment[]>(name, []).map((entry) => this.#new(entry.filename, entry));
    const list = kept.length > 0 ? kept : NONE;
    this.#lists.set(name, list);
    return list;
  }

  /** Send files to be read, one after the other: what one takes is gone from the room for the next. */
  async add(conversationId: string | null, files: readonly File[], model: string): Promise<void> {
    const waiting = files.map((file) => ({ file, item: this.#new(file.name || "pasted.txt", null) }));
    this.#set(conversationId, [...this.of(conversationId), ...waiting.map(({ item }) => item)]);
    for (const { file, item } of waiting) {
      if (!this.of(conversationId).includes(item)) continue;
      const beside = this.of(conversationId).reduce((sum, { entry }) => sum + (entry?.num_tokens ?? 0), 0);
      const query = new URLSearchParams({ name: item.name, model, beside: String(beside) });
      const init = { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } };
      let read: Partial<Attached>;
      try {
        read = { entry: (await (await send(`/api/attachments?${query}`, init)).json()) as Attachment };
      } catch (error) {
        const isTooLong = error instanceof ApiError && error.code === "context_length_exceeded";
        read = { error, file: isTooLong ? file : null };
      }
      const list = this.of(conversationId);
      this.#set(
        conversationId,
        list.map((each) => (each === item ? { ...each, ...read } : each)),
      );
      if (read.entry && !list.includes(item)) void detach(read.entry);
    }
  }

  remove(conversationId: string | null, item: Attached): void {
    this.#set(
      conversationId,
      this.of(conversationId).filter((each) => each !== item),
    );
    if (item.entry) void detach(item.entry);
  }

  /** What goes with a message; throws while a file is still being read. */
  ready(conversationId: string | null): Attachment[] {
    const list = this.of(conversationId);
    if (list.some(isBeingRead)) {
      throw new ApiError(0, "A file is still being read.", "Send the message when it is there.");
    }
    return list.flatMap(({ entry }) => entry ?? []);
  }

  /** After a message was sent: what is on its way into a collection goes on in the message's conversation. */
  clear(conversationId: string | null, sentIn: string): void {
    const going = this.of(conversationId).filter(({ collection }) => collection !== null);
    this.#set(conversationId, NONE);
    this.#set(sentIn, going);
  }

  /** A refused file goes into a collection instead. */
  redirect(conversationId: string | null, item: Attached, collection: Attached["collection"]): void {
    const goes = (each: Attached) => (each.key === item.key ? { ...each, error: null, collection } : each);
    this.#set(conversationId, this.of(conversationId).map(goes));
  }

  #new(name: string, entry: Attachment | null): Attached {
    this.#lastKey += 1;
    return { key: this.#lastKey, name, entry, error: null, file: null, collection: null };
  }

  #set(conversationId: string | null, list: readonly Attached[]): void {
    const name = keyOf(conversationId);
    this.#lists.set(name, list);
    const kept = list.flatMap(({ entry }) => entry ?? []);
    if (kept.length > 0) remember(name, kept);
    else forget(name);
    for (const listener of this.#listeners) listener();
  }
}

export function isBeingRead({ entry, error, collection }: Attached): boolean {
  return !entry && !error && !collection;
}

function keyOf(conversationId: string | null): string {
  return `attached.${conversationId ?? "new"}`;
}

/** One that is gone already is as good as taken away; others go by themselves after a day. */
function detach({ id }: Attachment): Promise<unknown> {
  return sendJson("DELETE", `/api/attachments/${encodeURIComponent(id)}`).catch(() => {});
}

export const attaching = new Attaching();

export function useAttached(conversationId: string | null): readonly Attached[] {
  return useSyncExternalStore(attaching.subscribe, () => attaching.of(conversationId));
}

const attachmentQuery = (id: string) =>
  queryOptions({
    queryKey: ["attachment", id],
    queryFn: ({ signal }) => getJson<AttachmentText>(`/api/attachments/${encodeURIComponent(id)}`, signal),
    staleTime: Number.POSITIVE_INFINITY,
  });

/** What a turn says to the model: its files, each under its name, and then its own words. */
export async function spoken(
  client: QueryClient,
  turn: Pick<Turn, "content" | "attachments">,
): Promise<string> {
  const parts: string[] = [];
  for (const { id } of turn.attachments) {
    const { filename, text } = await client.ensureQueryData(attachmentQuery(id));
    parts.push(`<document name="${filename.replaceAll('"', "'")}">\n${text.trim()}\n</document>`);
  }
  return [...parts, turn.content].join("\n\n");
}
