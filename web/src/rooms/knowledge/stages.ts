/** The stages of a search, and the scale of each: bars are compared within a stage, never between two. */
import type { SearchHit } from "../../api/types";

export const STAGES = [
  { name: "lexical", label: "Words", hint: "BM25: how telling the words are that stand in it" },
  { name: "dense", label: "Meaning", hint: "how near its vector is to that of the query" },
  { name: "graph", label: "Graph", hint: "how near it is by way of things that are named" },
  {
    name: "feedback",
    label: "Feedback",
    hint: "how near once the query has moved towards the best two",
  },
  { name: "fused", label: "Fused", hint: "the stages before, made one" },
  { name: "reranked", label: "Reranked", hint: "read together with the query" },
] as const;

export interface Scale {
  low: number;
  high: number;
}

/** From the least to the greatest score of every stage that saw something; zero is on it. */
export function scalesOf(hits: readonly Pick<SearchHit, "stages">[]): ReadonlyMap<string, Scale> {
  const scales = new Map<string, Scale>();
  for (const { stages } of hits) {
    for (const [name, score] of Object.entries(stages)) {
      const { low, high } = scales.get(name) ?? { low: 0, high: 0 };
      scales.set(name, { low: Math.min(low, score), high: Math.max(high, score) });
    }
  }
  return scales;
}

/** Where on its scale a score stands, from 0 to 1; the least of all still shows. */
export function shareOf(score: number, { low, high }: Scale): number {
  return high === low ? 1 : Math.max(0.02, (score - low) / (high - low));
}
