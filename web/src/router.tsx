/** Addresses of the page. Every room's own code is loaded when it is first visited. */
import { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";
import { AUDIT_FILTERS } from "./api/audit";
import { ApiError, onSignedOut } from "./api/client";
import { sessionQuery } from "./api/queries";
import { TRACE_FILTERS } from "./api/traces";
import { USAGE_FILTERS } from "./api/usage";
import { NotFound, RouteProblem } from "./parts/problem";
import { Shell } from "./parts/shell";

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // A refusal stays a refusal; only a server that could not be reached is worth another try.
      retry: (failures, error) => failures < 1 && (!(error instanceof ApiError) || error.status === 0),
    },
  },
});

/** Filters of a list live in the address, so that a filtered list is a link. */
function textSearch<Name extends string>(...names: Name[]) {
  return (search: Record<string, unknown>): { [name in Name]?: string } => {
    const found: { [name in Name]?: string } = {};
    for (const name of names) {
      const value = search[name];
      if (value !== undefined && value !== "") found[name] = String(value);
    }
    return found;
  };
}

const rootRoute = createRootRouteWithContext<{ client: QueryClient }>()({
  component: Outlet,
  errorComponent: RouteProblem,
  notFoundComponent: NotFound,
});

const welcomeRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/welcome",
  validateSearch: textSearch("next", "link"),
  component: lazyRouteComponent(() => import("./rooms/welcome"), "Welcome"),
});

const houseRoute = createRoute({
  getParentRoute: () => rootRoute,
  id: "house",
  component: Shell,
  beforeLoad: async ({ context, location }) => {
    try {
      await context.client.ensureQueryData(sessionQuery);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error;
      // The server sends a spent or expired link, or a sign-on that failed, here with this mark.
      const link = new URLSearchParams(location.searchStr).get("sign-in");
      throw redirect({ to: "/welcome", search: link ? { link } : { next: location.href } });
    }
  },
});

const indexRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/chat" });
  },
});

const chatRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/chat",
  validateSearch: textSearch("model", "knowledge", "message"),
  component: lazyRouteComponent(() => import("./rooms/chat/room"), "ChatRoom"),
});
const newChatRoute = createRoute({ getParentRoute: () => chatRoute, path: "/" });
const conversationRoute = createRoute({ getParentRoute: () => chatRoute, path: "$conversationId" });

const playgroundRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/playground",
  validateSearch: textSearch("model"),
  component: lazyRouteComponent(() => import("./rooms/playground/room"), "PlaygroundRoom"),
});

const promptsRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/prompts",
  validateSearch: textSearch("q"),
  component: lazyRouteComponent(() => import("./rooms/prompts/list"), "PromptsRoom"),
});

/** Outside the house: a link may be open to who is not signed in. */
const sharedRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/shared/$token",
  component: lazyRouteComponent(() => import("./rooms/shared"), "SharedRoom"),
});

const knowledgeRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/knowledge",
  validateSearch: textSearch("q"),
  component: lazyRouteComponent(() => import("./rooms/knowledge/list"), "KnowledgeRoom"),
});

const collectionRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/knowledge/$collection",
  validateSearch: textSearch("find", "q", "status", "page"),
  component: lazyRouteComponent(() => import("./rooms/knowledge/collection"), "CollectionRoom"),
});

const documentRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/knowledge/$collection/documents/$documentId",
  validateSearch: ({ passage }: Record<string, unknown>): { passage?: number } =>
    Number.isInteger(Number(passage)) && Number(passage) > 0 ? { passage: Number(passage) } : {},
  component: lazyRouteComponent(() => import("./rooms/knowledge/document"), "DocumentRoom"),
});

const modelsRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/models",
  validateSearch: textSearch("q", "kind"),
  component: lazyRouteComponent(() => import("./rooms/models/list"), "ModelsRoom"),
});

const modelRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/models/$digest",
  component: lazyRouteComponent(() => import("./rooms/models/detail"), "ModelRoom"),
});

const runsRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/runs",
  validateSearch: textSearch("q", "status"),
  component: lazyRouteComponent(() => import("./rooms/runs/list"), "RunsRoom"),
});

const runRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/runs/$runId",
  component: lazyRouteComponent(() => import("./rooms/runs/detail"), "RunRoom"),
});

const routesRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/routes",
  component: lazyRouteComponent(() => import("./rooms/routes/room"), "RoutesRoom"),
});

const keysRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/keys",
  validateSearch: textSearch("q", "whose"),
  component: lazyRouteComponent(() => import("./rooms/people/keys"), "KeysRoom"),
});

const peopleRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/people",
  validateSearch: textSearch("q"),
  component: lazyRouteComponent(() => import("./rooms/people/list"), "PeopleRoom"),
});

const usageRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/usage",
  validateSearch: textSearch("span", "by", "show", ...USAGE_FILTERS),
  component: lazyRouteComponent(() => import("./rooms/usage/room"), "UsageRoom"),
});

const auditRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/audit",
  validateSearch: textSearch("span", "since", "until", "page", ...AUDIT_FILTERS),
  component: lazyRouteComponent(() => import("./rooms/audit/room"), "AuditRoom"),
});

const tracesRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/traces",
  validateSearch: textSearch("span", ...TRACE_FILTERS),
  component: lazyRouteComponent(() => import("./rooms/traces/list"), "TracesRoom"),
});

const traceRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/traces/$traceId",
  component: lazyRouteComponent(() => import("./rooms/traces/detail"), "TraceRoom"),
});

const settingsRoute = createRoute({
  getParentRoute: () => houseRoute,
  path: "/settings",
  component: lazyRouteComponent(() => import("./rooms/settings/room"), "SettingsRoom"),
});

export const router = createRouter({
  routeTree: rootRoute.addChildren([
    welcomeRoute,
    sharedRoute,
    houseRoute.addChildren([
      indexRoute,
      chatRoute.addChildren([newChatRoute, conversationRoute]),
      playgroundRoute,
      promptsRoute,
      knowledgeRoute,
      collectionRoute,
      documentRoute,
      modelsRoute,
      modelRoute,
      runsRoute,
      runRoute,
      routesRoute,
      keysRoute,
      peopleRoute,
      usageRoute,
      auditRoute,
      tracesRoute,
      traceRoute,
      settingsRoute,
    ]),
  ]),
  context: { client },
  defaultPreload: "intent",
  scrollRestoration: true,
});

onSignedOut(() => {
  client.removeQueries({ queryKey: sessionQuery.queryKey });
  const { pathname, href } = router.state.location;
  if (pathname !== "/welcome") void router.navigate({ to: "/welcome", search: { next: href } });
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
