import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The page is served by `cairn up` from its own origin; in development Vite passes the API through.
const server = "http://127.0.0.1:8642";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../src/cairn/server/page",
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": server, "/v1": server } },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
