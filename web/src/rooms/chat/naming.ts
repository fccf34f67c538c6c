/** A file's name as one that a collection may have: letters, digits, spaces and . _ -, the first no sign. */
export function nameFor(filename: string): string {
  const stem = filename.replace(/^.*[/\\]/, "").replace(/(?<=.)\.[^.]*$/, "");
  const name = stem
    .replace(/[^\p{L}\p{N} _.-]+/gu, " ")
    .replace(/\s+/g, " ")
    .replace(/^[^\p{L}\p{N}]+/u, "")
    .slice(0, 100)
    .trim();
  return name || "documents";
}
