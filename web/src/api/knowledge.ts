/** Collections and documents as the page asks for them. A collection goes by its name or its id. */
import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query";
import { getJson, sendJson } from "./client";
import type {
  ChunkList,
  Collection,
  CollectionList,
  DocumentEntry,
  DocumentList,
  DocumentText,
  Embedding,
  SearchHit,
  UploadEntry,
} from "./types";

const LIVE_MS = 1000;
export const DOCUMENTS_SHOWN = 50;
const CHUNKS_SHOWN = 40;

export const collectionPath = (ref: string) => `/api/collections/${encodeURIComponent(ref)}`;
export const documentPath = (ref: string, id: string) =>
  `${collectionPath(ref)}/documents/${encodeURIComponent(id)}`;

export const collectionsQuery = queryOptions({
  queryKey: ["collections"],
  queryFn: ({ signal }) => getJson<CollectionList>("/api/collections", signal),
  refetchInterval: ({ state }) => (state.data?.preparing ? LIVE_MS : false),
});

export const collectionQuery = (ref: string) =>
  queryOptions({
    queryKey: ["collection", ref],
    queryFn: ({ signal }) => getJson<Collection>(collectionPath(ref), signal),
  });

export interface DocumentFilter {
  q: string;
  status: string;
  page: number;
}

export const documentsQuery = (ref: string, { q, status, page }: DocumentFilter) =>
  queryOptions({
    queryKey: ["documents", ref, q, status, page],
    queryFn: ({ signal }) => {
      const search = new URLSearchParams({
        q,
        status,
        offset: String((page - 1) * DOCUMENTS_SHOWN),
        limit: String(DOCUMENTS_SHOWN),
      });
      return getJson<DocumentList>(`${collectionPath(ref)}/documents?${search}`, signal);
    },
    placeholderData: keepPreviousData,
  });

export const documentQuery = (ref: string, id: string) =>
  queryOptions({
    queryKey: ["document", ref, id],
    queryFn: ({ signal }) => getJson<DocumentEntry>(documentPath(ref, id), signal),
  });

/** Passages of a document, from those around one of them on, both ways. */
export const chunksQuery = (ref: string, id: string, around: number | undefined) =>
  infiniteQueryOptions({
    queryKey: ["chunks", ref, id, around],
    queryFn: ({ pageParam, signal }) => {
      const { offset, limit } = pageParam;
      const search = new URLSearchParams({ limit: String(limit) });
      if (offset === null) search.set("around", String(around));
      else search.set("offset", String(offset));
      return getJson<ChunkList>(`${documentPath(ref, id)}/chunks?${search}`, signal);
    },
    initialPageParam: { offset: around === undefined ? 0 : null, limit: CHUNKS_SHOWN } as {
      offset: number | null;
      limit: number;
    },
    getNextPageParam: ({ offset, chunks, total }) =>
      offset + chunks.length < total ? { offset: offset + chunks.length, limit: CHUNKS_SHOWN } : undefined,
    getPreviousPageParam: ({ offset }) => {
      const start = Math.max(0, offset - CHUNKS_SHOWN);
      return offset > 0 ? { offset: start, limit: offset - start } : undefined;
    },
  });

/** What was read from one page, indexed or not. */
export const pageTextQuery = (ref: string, id: string, page: number) =>
  queryOptions({
    queryKey: ["page-text", ref, id, page],
    queryFn: ({ signal }) => getJson<DocumentText>(`${documentPath(ref, id)}/text?page=${page}`, signal),
  });

export const searchQuery = (ref: string, query: string) =>
  queryOptions({
    queryKey: ["search", ref, query],
    queryFn: ({ signal }) =>
      sendJson<{ hits: SearchHit[] }>("POST", `${collectionPath(ref)}/search`, { query }, { signal }),
    staleTime: 30_000,
  });

/** Files that this user sent; followed closely while some are on their way. */
export const uploadsQuery = (ref: string) =>
  queryOptions({
    queryKey: ["uploads", ref],
    queryFn: ({ signal }) => getJson<UploadEntry[]>(`${collectionPath(ref)}/uploads`, signal),
    refetchInterval: ({ state }) => (state.data?.some(isUnderWay) ? LIVE_MS : false),
  });

/** How a collection is embedded; followed closely while something is done to it. */
export const embeddingQuery = (ref: string) =>
  queryOptions({
    queryKey: ["embedding", ref],
    queryFn: ({ signal }) => getJson<Embedding>(`${collectionPath(ref)}/embedding`, signal),
    refetchInterval: ({ state }) => (state.data?.work && !state.data.work.is_over ? LIVE_MS : false),
  });

export function isUnderWay(upload: UploadEntry): boolean {
  return upload.state !== "done" && upload.state !== "failed";
}

/** A new collection, of oneself alone unless labels say otherwise. */
export const makeCollection = (body: { name: string; labels?: string[] }) =>
  sendJson<Collection>("POST", "/api/collections", body);

/** Keys of everything that a change in a collection makes old. */
export const COLLECTION_KEYS = ["collections", "collection", "documents", "document", "search"] as const;
