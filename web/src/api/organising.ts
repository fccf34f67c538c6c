/** Folders, search, links and saved prompts, as the page asks for them. */
import { keepPreviousData, type QueryClient, queryOptions } from "@tanstack/react-query";
import { ApiError, getJson } from "./client";
import { conversationQuery, conversationsQuery, sessionQuery } from "./queries";
import type { Folder, FoundMessages, Prompt, SharedConversation, ShareList } from "./types";

export const conversationPath = (id: string) => `/api/conversations/${encodeURIComponent(id)}`;

export const foldersQuery = queryOptions({
  queryKey: ["folders"],
  queryFn: ({ signal }) => getJson<Folder[]>("/api/folders", signal),
});

export const foundQuery = (words: string) =>
  queryOptions({
    queryKey: ["conversations-found", words],
    queryFn: ({ signal }) =>
      getJson<FoundMessages>(`/api/conversations/search?${new URLSearchParams({ q: words })}`, signal),
    enabled: words.trim() !== "",
    placeholderData: keepPreviousData,
  });

export const sharesQuery = queryOptions({
  queryKey: ["shares"],
  queryFn: ({ signal }) => getJson<ShareList>("/api/shares", signal),
});

export const promptsQuery = queryOptions({
  queryKey: ["prompts"],
  queryFn: ({ signal }) => getJson<Prompt[]>("/api/prompts", signal),
  staleTime: 30_000,
});

/** What a link shows: to who is signed in as far as documents are open to them, to others what is open to anyone. */
export const sharedQuery = (token: string) =>
  queryOptions({
    queryKey: ["shared", token],
    queryFn: async ({ client, signal }) => {
      const isSignedIn = await client.ensureQueryData(sessionQuery).then(
        () => true,
        (error: unknown) => {
          if (error instanceof ApiError && error.status === 401) return false;
          throw error;
        },
      );
      const from = isSignedIn ? "shared" : "public";
      const found = await getJson<SharedConversation>(`/api/${from}/${encodeURIComponent(token)}`, signal);
      return { ...found, isSignedIn };
    },
    retry: false,
  });

/** After a conversation was changed, moved, or came or went. */
export async function refreshConversations(client: QueryClient, id?: string): Promise<void> {
  const keys: (readonly string[])[] = [
    conversationsQuery.queryKey,
    foldersQuery.queryKey,
    ["conversations-found"],
  ];
  if (id !== undefined) keys.push(conversationQuery(id).queryKey);
  await Promise.all(keys.map((queryKey) => client.invalidateQueries({ queryKey })));
}
