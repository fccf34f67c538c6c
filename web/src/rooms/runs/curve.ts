/** Lines of `metrics.jsonl` as the columns that a plot wants. */
import type { MetricsLine } from "../../api/types";

export type XAxis = "step" | "tokens";

/** Aligned columns: x, training loss, validation loss; null where a split has no value at that x. */
export type Columns = [x: number[], train: (number | null)[], validation: (number | null)[]];

/**
 * Sorted by x, one column per x. A resumed run writes some steps again: the later line counts, as it does in the
 * weights.
 */
export function toColumns(lines: readonly MetricsLine[], xAxis: XAxis): Columns {
  const rows = new Map<number, { train: number | null; validation: number | null }>();
  for (const line of lines) {
    const x = line[xAxis];
    const row = rows.get(x) ?? { train: null, validation: null };
    if (line.loss !== null && Number.isFinite(line.loss)) row[line.split] = line.loss;
    rows.set(x, row);
  }
  const sorted = [...rows].sort(([a], [b]) => a - b);
  return [
    sorted.map(([x]) => x),
    sorted.map(([, { train }]) => train),
    sorted.map(([, row]) => row.validation),
  ];
}

export interface LossFacts {
  step: number;
  tokens: number;
  trainLoss: number | null;
  validationLoss: number | null;
  bitsPerByte: number | null;
  tokensPerSecond: number | null;
}

/** The newest value of everything the curve shows. */
export function latest(lines: readonly MetricsLine[]): LossFacts {
  const train = lines.findLast(({ split }) => split === "train");
  const validation = lines.findLast(({ split }) => split === "validation");
  const last = lines.at(-1);
  return {
    step: last?.step ?? 0,
    tokens: last?.tokens ?? 0,
    trainLoss: train?.loss ?? null,
    validationLoss: validation?.loss ?? null,
    bitsPerByte: validation?.bits_per_byte ?? null,
    tokensPerSecond: train?.tokens_per_second ?? null,
  };
}
