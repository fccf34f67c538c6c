/**
 * Marks of sources and sentences without support, found in Markdown while it becomes elements: `[1]` in a text becomes
 * a `cite` that names its source, and what no source says an element of its own.
 */
import type { Citation, SentenceCheck } from "../../api/types";

interface Node {
  type: string;
  value?: string;
  children?: Node[];
  position?: { start: { offset?: number } };
  data?: { hName: string; hProperties: Record<string, string> };
}

/** A span of the reply in UTF-16 units, as the page counts. */
export type Span = readonly [start: number, end: number];

/** Where sentences are that no source bears out; the server counts characters. */
export function unsupportedSpans(text: string, sentences: readonly SentenceCheck[]): Span[] {
  const units: number[] = [];
  let place = 0;
  for (const character of text) {
    units.push(place);
    place += character.length;
  }
  units.push(place);
  const at = (character: number) => units[Math.min(character, units.length - 1)] ?? place;
  return sentences
    .filter(({ supported, end, start }) => !supported && end > start)
    .map(({ start, end }) => [at(start), at(end)] as const);
}

/** A remark plugin. */
export function citing(citations: readonly Citation[], spans: readonly Span[]) {
  const known = new Set(citations.map(({ number }) => number));
  return () => (tree: Node) => walk(tree, known, spans);
}

function walk(node: Node, known: ReadonlySet<number>, spans: readonly Span[]): void {
  node.children = node.children?.flatMap((child) => {
    if (child.type !== "text") {
      walk(child, known, spans);
      return [child];
    }
    const start = child.position?.start.offset ?? 0;
    return cut(child.value ?? "", start, spans).flatMap(({ text, isDoubtful }) => {
      const parts = marked(text, known);
      return isDoubtful ? [element("mark", { className: "unsupported" }, parts)] : parts;
    });
  });
}

/** A text that begins at `start`, cut at the ends of doubtful spans. */
function cut(text: string, start: number, spans: readonly Span[]): { text: string; isDoubtful: boolean }[] {
  const edges = spans.flat().map((edge) => Math.min(Math.max(edge - start, 0), text.length));
  const places = [...new Set([0, ...edges, text.length])].sort((a, b) => a - b);
  return places.slice(1).map((end, place) => {
    const from = places[place] ?? 0;
    const isDoubtful = spans.some(([low, high]) => low <= start + from && start + end <= high);
    return { text: text.slice(from, end), isDoubtful };
  });
}

function marked(text: string, known: ReadonlySet<number>): Node[] {
  return text
    .split(/(\[\d{1,4}\])/)
    .filter((part) => part !== "")
    .map((part) => {
      const number = /^\[(\d{1,4})\]$/.exec(part)?.[1];
      return number !== undefined && known.has(Number(number))
        ? element("cite", { title: number }, [])
        : { type: "text", value: part };
    });
}

function element(hName: string, hProperties: Record<string, string>, children: Node[]): Node {
  return { type: "cited", children, data: { hName, hProperties } };
}
