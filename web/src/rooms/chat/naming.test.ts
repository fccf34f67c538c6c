import { expect, test } from "vitest";
import { nameFor } from "./naming";

test.each([
  ["long.txt", "long"],
  ["reports/2026/Q3 (final).v2.pdf", "Q3 final .v2"],
  ["_Übersicht: Gäste & Räume.docx", "Übersicht Gäste Räume"],
  [".env", "env"],
  ["???.md", "documents"],
  [`${"x".repeat(300)}.md`, "x".repeat(100)],
])("%s becomes the collection %s", (filename, name) => {
  expect(nameFor(filename)).toBe(name);
});
