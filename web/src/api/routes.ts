/** The routes in force: asked again and again while somebody looks. */
import { queryOptions } from "@tanstack/react-query";
import { getJson } from "./client";
import type { Routes } from "./types";

export const routesQuery = queryOptions({
  queryKey: ["routes"],
  queryFn: ({ signal }) => getJson<Routes>("/api/routes", signal),
  refetchInterval: 2_000,
});
