/** People, groups, keys and sessions: what is asked for, and what a caller may do. */
import { type QueryClient, queryOptions, useQuery } from "@tanstack/react-query";
import { getJson } from "./client";
import { sessionQuery } from "./queries";
import type { Account, Group, Key, OpenSession, PermissionEntry, Person, Setting, SignInWays } from "./types";

export const signInWaysQuery = queryOptions({
  queryKey: ["sign-in-ways"],
  queryFn: ({ signal }) => getJson<SignInWays>("/api/sign-in", signal),
  staleTime: 60_000,
});

export const ownKeysQuery = queryOptions({
  queryKey: ["keys", "own"],
  queryFn: ({ signal }) => getJson<Key[]>("/api/keys", signal),
});

export const issuedKeysQuery = queryOptions({
  queryKey: ["keys", "issued"],
  queryFn: ({ signal }) => getJson<Key[]>("/api/issued-keys", signal),
});

export const permissionsQuery = queryOptions({
  queryKey: ["permissions"],
  queryFn: ({ signal }) => getJson<PermissionEntry[]>("/api/permissions", signal),
  staleTime: Number.POSITIVE_INFINITY,
});

export const peopleQuery = queryOptions({
  queryKey: ["people"],
  queryFn: ({ signal }) => getJson<Person[]>("/api/people", signal),
});

export const groupsQuery = queryOptions({
  queryKey: ["groups"],
  queryFn: ({ signal }) => getJson<Group[]>("/api/groups", signal),
});

export const accountQuery = queryOptions({
  queryKey: ["session", "account"],
  queryFn: ({ signal }) => getJson<Account>("/api/account", signal),
});

export const settingsQuery = queryOptions({
  queryKey: ["settings"],
  queryFn: ({ signal }) => getJson<Setting[]>("/api/settings", signal),
  staleTime: 60_000,
});

export const sessionsQuery = queryOptions({
  queryKey: ["sessions"],
  queryFn: ({ signal }) => getJson<OpenSession[]>("/api/account/sessions", signal),
});

/** Whether who is signed in has a permission; false until that is known. */
export function useMay(): (permission: string) => boolean {
  const held = useQuery(sessionQuery).data?.permissions ?? [];
  return (permission) => held.includes(permission);
}

/** After people or groups have changed; keys are listed with whose they are. */
export function refreshPeople(client: QueryClient): void {
  for (const key of ["people", "groups", "keys", "session"])
    void client.invalidateQueries({ queryKey: [key] });
}
