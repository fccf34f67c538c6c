/** Spans as rows of a waterfall: each below its parent, in the order in which they began. */
import type { TraceSpan } from "../../api/types";

export interface Row {
  span: TraceSpan;
  depth: number;
  /** Where its bar begins and how long it is, as parts of the whole. */
  left: number;
  width: number;
}

/** Of a bar: what is shorter is still to be seen. */
const LEAST_WIDTH = 0.003;

export function toRows(spans: readonly TraceSpan[], seconds: number): Row[] {
  const known = new Set(spans.map((span) => span.span_id));
  const below = new Map<string, TraceSpan[]>();
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    // The caller's span is not here: what it began stands at the top.
    const parent = known.has(span.parent_id) ? span.parent_id : "";
    below.set(parent, [...(below.get(parent) ?? []), span]);
  }
  const rows: Row[] = [];
  const whole = Math.max(seconds, Number.MIN_VALUE);
  const add = (parent: string, depth: number) => {
    for (const span of below.get(parent) ?? []) {
      const width = Math.min(1, Math.max(LEAST_WIDTH, span.seconds / whole));
      rows.push({ span, depth, left: Math.min(span.start / whole, 1 - width), width });
      add(span.span_id, depth + 1);
    }
  };
  add("", 0);
  return rows;
}

/** A time of any size with three digits: 340 µs, 12.3 ms, 1.23 s, 75.2 s. */
export function formatSpan(seconds: number): string {
  if (seconds < 0.000_999_5) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  return `${Number(seconds.toPrecision(3))} s`;
}

/** Who is meant by a span, beside its name: the target of an attempt, the number where it is not the first. */
export function aside({ attributes }: TraceSpan): string {
  const target = attributes["cairn.target"];
  const attempt = attributes["cairn.attempt"];
  const parts = [
    typeof target === "string" ? target : "",
    typeof attempt === "number" && attempt > 1 ? `attempt ${attempt}` : "",
    attributes["cairn.shadow"] === true ? "copy" : "",
  ];
  return parts.filter(Boolean).join(", ");
}

/** What a bar is about, which decides its colour. */
export function partOf({
  name,
  kind,
  error,
}: TraceSpan): "failed" | "elsewhere" | "model" | "search" | "server" {
  if (error !== "") return "failed";
  if (kind === "client") return "elsewhere";
  if (["queue", "prefill", "decode"].includes(name)) return "model";
  if (/^(retrieval|embed|search|walk|load passages|rerank|read passages|build context)/.test(name))
    return "search";
  return "server";
}

/** The attributes of a span as text; what is JSON is laid out. */
export function attributeText(value: unknown): string {
  if (typeof value !== "string") return typeof value === "object" ? JSON.stringify(value) : String(value);
  if (!value.startsWith("[{")) return value;
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}
