import { QueryClientProvider } from "@tanstack/react-query";
import { type AnyRoute, RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "./look/tokens.css";
import "./look/base.css";
import "./look/parts.css";
import "./parts/shell.css";
import { client, router } from "./router";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");

// The room's own code comes while the session is asked for, not after it.
const routes: Readonly<Record<string, AnyRoute | undefined>> = router.routesById;
for (const { routeId } of router.matchRoutes(router.latestLocation)) {
  const component = routes[routeId]?.options.component;
  if (component && "preload" in component) void component.preload?.();
}

createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <RouterProvider router={router} />
    </QueryClientProvider>
  </StrictMode>,
);
