/** How replies are sampled: kept per conversation, and a new conversation starts with what was used last. */
import type { NumberField } from "../../parts/number-field";
import { recall, remember } from "../../storage";

export interface Sampling {
  model: string;
  /** Name of the collection that is asked first; empty: none. */
  knowledge: string;
  system: string;
  temperature: number | null;
  top_p: number | null;
  top_k: number | null;
  max_tokens: number | null;
  seed: number | null;
  stop: string[];
}

/** `null` leaves the choice to the server. */
export const DEFAULT_SAMPLING: Sampling = {
  model: "",
  knowledge: "",
  system: "",
  temperature: null,
  top_p: null,
  top_k: null,
  max_tokens: null,
  seed: null,
  stop: [],
};

export type NumberName = "temperature" | "top_p" | "top_k" | "max_tokens" | "seed";

export const NUMBER_FIELDS: readonly NumberField<NumberName>[] = [
  {
    name: "temperature",
    label: "Temperature",
    hint: "0 always takes the likeliest token",
    min: 0,
    max: 2,
    step: 0.05,
    unset: "1",
  },
  {
    name: "top_p",
    label: "Top-p",
    hint: "keep the likeliest tokens up to this probability",
    min: 0.01,
    max: 1,
    step: 0.01,
    unset: "1",
  },
  {
    name: "top_k",
    label: "Top-k",
    hint: "keep this many of the likeliest tokens; 0 keeps all",
    min: 0,
    max: 1000,
    step: 1,
    unset: "0",
  },
  {
    name: "max_tokens",
    label: "Max tokens",
    hint: "most tokens of a reply",
    min: 1,
    max: 1_000_000,
    step: 1,
    unset: "to the end",
  },
  {
    name: "seed",
    label: "Seed",
    hint: "equal seeds give equal replies",
    min: 0,
    max: 2 ** 31 - 1,
    step: 1,
    unset: "random",
  },
];

/** The fields of the request: only what was set. */
export function toWire(sampling: Sampling): Record<string, unknown> {
  const wire: Record<string, unknown> = {};
  for (const { name } of NUMBER_FIELDS) if (sampling[name] !== null) wire[name] = sampling[name];
  if (sampling.stop.length > 0) wire.stop = sampling.stop;
  return wire;
}

/** How many settings differ from the server's own. */
export function countChanged(sampling: Sampling): number {
  return Object.keys(toWire(sampling)).length + (sampling.system.trim() === "" ? 0 : 1);
}

export function loadSampling(conversationId: string | null): Sampling {
  const last = { ...DEFAULT_SAMPLING, ...recall<Partial<Sampling>>("sampling", {}) };
  return conversationId === null
    ? last
    : { ...last, ...recall<Partial<Sampling>>(`sampling.${conversationId}`, {}) };
}

export function saveSampling(conversationId: string | null, sampling: Sampling): void {
  remember("sampling", sampling);
  if (conversationId !== null) remember(`sampling.${conversationId}`, sampling);
}

/** Who answers: the one asked for by a link, or the one used last, or the first; a remembered one may be gone. */
export function chooseModel(
  wanted: string | undefined,
  remembered: string,
  names: readonly string[],
): string {
  return [wanted, remembered].find((name) => name && names.includes(name)) ?? names[0] ?? "";
}
