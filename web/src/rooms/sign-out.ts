import type { QueryClient } from "@tanstack/react-query";
import type { UseNavigateResult } from "@tanstack/react-router";
import { sendJson } from "../api/client";

/** Ends the session, forgets what was fetched under it, and goes to the sign-in page. */
export async function signOut(client: QueryClient, navigate: UseNavigateResult<string>): Promise<void> {
  await sendJson("POST", "/api/sign-out");
  client.clear();
  await navigate({ to: "/welcome" });
}
