/** Colours code. Loaded when the first block of code is shown. */
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";

const lowlight = createLowlight({
  bash,
  c,
  cpp,
  css,
  diff,
  go,
  java,
  javascript,
  json,
  markdown,
  python,
  rust,
  sql,
  typescript,
  xml,
  yaml,
});

export interface Span {
  text: string;
  className: string;
}

type Node = ReturnType<typeof lowlight.highlight>["children"][number];

/** The code as coloured spans, or null when the language is not one of ours. */
export function highlight(code: string, language: string): Span[] | null {
  if (!lowlight.registered(language)) return null;
  const spans: Span[] = [];
  const visit = (node: Node, className: string) => {
    if (node.type === "text") spans.push({ text: node.value, className });
    if (node.type !== "element") return;
    const own = node.properties.className;
    for (const child of node.children) visit(child, Array.isArray(own) ? own.join(" ") : className);
  };
  for (const node of lowlight.highlight(language, code).children) visit(node, "");
  return spans;
}
