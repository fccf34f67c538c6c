/** What the page asks for, named once: query keys, paths and how long an answer stays fresh. */
import { type QueryClient, queryOptions } from "@tanstack/react-query";
import { getJson, sendJson } from "./client";
import type {
  ArtifactDetail,
  ArtifactEntry,
  Conversation,
  ConversationEntry,
  Lineage,
  Memory,
  ModelEntry,
  NewTurn,
  Receipt,
  RunDetail,
  RunEntry,
  Session,
  Turn,
} from "./types";

const LIVE_MS = 2000;

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: ({ signal }) => getJson<Session>("/api/session", signal),
  staleTime: 60_000,
  retry: false,
});

/** Models that can be talked to. */
export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async ({ signal }) => {
    const { data } = await getJson<{ data: ModelEntry[] }>("/v1/models", signal);
    return data.filter(({ cairn }) => cairn.task === "text");
  },
  staleTime: 30_000,
});

/** Who is in memory: followed closely while a model loads or answers. */
export const memoryQuery = queryOptions({
  queryKey: ["memory"],
  queryFn: ({ signal }) => getJson<Memory>("/api/models/memory", signal),
  refetchInterval: ({ state }) =>
    state.data?.models.some((model) => model.state === "loading" || model.num_requests > 0)
      ? LIVE_MS
      : 5 * LIVE_MS,
});

export const conversationsQuery = queryOptions({
  queryKey: ["conversations"],
  queryFn: ({ signal }) => getJson<ConversationEntry[]>("/api/conversations", signal),
});

export const conversationQuery = (id: string) =>
  queryOptions({
    queryKey: ["conversation", id],
    queryFn: ({ signal }) => getJson<Conversation>(`/api/conversations/${encodeURIComponent(id)}`, signal),
  });

export const receiptQuery = (id: string) =>
  queryOptions({
    queryKey: ["receipt", id],
    queryFn: ({ signal }) => getJson<Receipt>(`/api/receipts/${encodeURIComponent(id)}`, signal),
    staleTime: Number.POSITIVE_INFINITY,
  });

export const artifactsQuery = queryOptions({
  queryKey: ["artifacts"],
  queryFn: ({ signal }) => getJson<ArtifactEntry[]>("/api/artifacts", signal),
});

export const artifactQuery = (digest: string) =>
  queryOptions({
    queryKey: ["artifact", digest],
    queryFn: ({ signal }) => getJson<ArtifactDetail>(`/api/artifacts/${encodeURIComponent(digest)}`, signal),
  });

export const lineageQuery = (digest: string) =>
  queryOptions({
    queryKey: ["lineage", digest],
    queryFn: ({ signal }) => getJson<Lineage>(`/api/artifacts/${encodeURIComponent(digest)}/lineage`, signal),
  });

export const runsQuery = queryOptions({
  queryKey: ["runs"],
  queryFn: ({ signal }) => getJson<RunEntry[]>("/api/runs", signal),
  refetchInterval: ({ state }) => (state.data?.some((run) => run.status === "running") ? LIVE_MS : false),
});

export const runQuery = (id: string) =>
  queryOptions({
    queryKey: ["run", id],
    queryFn: ({ signal }) => getJson<RunDetail>(`/api/runs/${encodeURIComponent(id)}`, signal),
    refetchInterval: ({ state }) => (state.data?.status === "running" ? LIVE_MS : false),
  });

/** Stores a turn and puts it into the cached conversation, so that nothing flickers while it is fetched again. */
export async function storeTurn(
  client: QueryClient,
  conversationId: string,
  turn: NewTurn,
  init: RequestInit = {},
): Promise<Turn> {
  const path = `/api/conversations/${encodeURIComponent(conversationId)}/messages`;
  const stored = await sendJson<Turn>("POST", path, turn, init);
  client.setQueryData(conversationQuery(conversationId).queryKey, (old) =>
    old ? { ...old, messages: [...old.messages, stored] } : old,
  );
  void client.invalidateQueries({ queryKey: conversationsQuery.queryKey });
  return stored;
}
