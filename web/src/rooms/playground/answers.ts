/**
 * Answers of the Playground, one a side. They live outside the page's components, so that they go on while another room
 * is looked at; what has come is remembered by the browser.
 */
import { type Chunk, type ChunkChoice, callsIn, streamChunks, type Usage } from "../../api/completions";
import type { Citation, TokenLogprob, ToolCall } from "../../api/types";
import { recall, remember } from "../../storage";
import type { Body } from "./request";

export interface Choice {
  text: string;
  calls: ToolCall[];
  tokens: TokenLogprob[];
  sources: Citation[];
  finishReason: string;
}

export interface Answer {
  phase: "waiting" | "writing" | "done" | "stopped" | "failed";
  model: string;
  choices: Choice[];
  usage: Usage | null;
  receiptId: string;
  /** Of a route: who answered. */
  target: string;
  error: unknown;
  /** Pieces so far: about as many as tokens. */
  pieces: number;
  /** Milliseconds from asking to the first piece, from there to the last, and in all. */
  firstMs: number;
  writingMs: number;
  totalMs: number;
}

export const SIDES = [0, 1] as const;
export type Side = (typeof SIDES)[number];

const EMPTY_CHOICE: Choice = { text: "", calls: [], tokens: [], sources: [], finishReason: "" };
const NOTIFY_MS = 40;
const MOST_KEPT = 1_500_000;

/** An answer with what one more chunk says. */
export function withChunk(answer: Answer, chunk: Chunk): Answer {
  const next = { ...answer };
  if (chunk.cairn?.receipt) next.receiptId = chunk.cairn.receipt;
  if (chunk.cairn?.target) next.target = chunk.cairn.target;
  if (chunk.usage) next.usage = chunk.usage;
  if (chunk.choices?.length) {
    next.choices = [...answer.choices];
    for (const each of chunk.choices) {
      // The answer of a side is drawn anew for every notice; the choices between are its own.
      while (next.choices.length <= each.index) next.choices.push(EMPTY_CHOICE);
      next.choices[each.index] = withDelta(next.choices[each.index] ?? EMPTY_CHOICE, each);
    }
  }
  return next;
}

function withDelta(choice: Choice, { delta, logprobs, finish_reason }: ChunkChoice): Choice {
  const next = { ...choice };
  if (delta.content) next.text += delta.content;
  if (delta.tool_calls?.length) next.calls = [...choice.calls, ...callsIn(delta)];
  if (delta.annotations?.length) next.sources = delta.annotations;
  if (logprobs?.content.length) next.tokens = [...choice.tokens, ...logprobs.content];
  if (finish_reason) next.finishReason = finish_reason;
  return next;
}

function isPiece(chunk: Chunk): boolean {
  return (chunk.choices ?? []).some(
    ({ delta }) => Boolean(delta.content) || Boolean(delta.tool_calls?.length),
  );
}

class Answers {
  #answers: (Answer | null)[] = SIDES.map((side) => stored(side));
  #controllers = new Map<Side, AbortController>();
  #listeners = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | null = null;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  of(side: Side): Answer | null {
    return this.#answers[side] ?? null;
  }

  isBusy(): boolean {
    return this.#controllers.size > 0;
  }

  /** Ask all sides at once. */
  run(bodies: readonly Body[]): void {
    this.#drop();
    for (const side of SIDES) {
      const body = bodies[side];
      if (body) void this.#ask(side, body);
      else this.#set(side, null);
    }
  }

  stop(): void {
    for (const controller of this.#controllers.values()) controller.abort();
  }

  clear(): void {
    this.#drop();
    for (const side of SIDES) this.#set(side, null);
  }

  /** End what is being written, of which nothing is kept. */
  #drop(): void {
    this.stop();
    this.#controllers.clear();
  }

  async #ask(side: Side, body: Body): Promise<void> {
    const controller = new AbortController();
    this.#controllers.set(side, controller);
    const asked = performance.now();
    let answer: Answer = {
      phase: "waiting",
      model: String(body.model),
      choices: [],
      usage: null,
      receiptId: "",
      target: "",
      error: null,
      pieces: 0,
      firstMs: 0,
      writingMs: 0,
      totalMs: 0,
    };
    const isCurrent = () => this.#controllers.get(side) === controller;
    this.#set(side, answer);
    try {
      for await (const chunk of streamChunks(body, controller.signal)) {
        answer = withChunk(answer, chunk);
        const now = performance.now() - asked;
        if (isPiece(chunk)) {
          if (answer.pieces === 0) answer.firstMs = now;
          answer.pieces += 1;
          answer.writingMs = now - answer.firstMs;
          answer.phase = "writing";
        }
        answer.totalMs = now;
        if (isCurrent()) this.#set(side, answer, true);
      }
      answer = { ...answer, phase: "done" };
    } catch (error) {
      answer = controller.signal.aborted
        ? { ...answer, phase: "stopped" }
        : { ...answer, phase: "failed", error };
    }
    if (!isCurrent()) return;
    this.#controllers.delete(side);
    this.#set(side, answer);
    remember(keyOf(side), kept(answer));
  }

  #set(side: Side, answer: Answer | null, isSoon = false): void {
    this.#answers[side] = answer;
    if (answer === null) remember(keyOf(side), null);
    if (isSoon) this.#timer ??= setTimeout(() => this.#notify(), NOTIFY_MS);
    else this.#notify();
  }

  #notify(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    for (const listener of this.#listeners) listener();
  }
}

function keyOf(side: Side): string {
  return `playground.answer.${side}`;
}

/** Probabilities of very many tokens would take all the room that a browser gives. */
function kept(answer: Answer): Answer {
  const whole = { ...answer, error: null };
  if (JSON.stringify(whole).length < MOST_KEPT) return whole;
  return { ...whole, choices: whole.choices.map((choice) => ({ ...choice, tokens: [] })) };
}

/** A failure is not kept: the same request may well succeed now. */
function stored(side: Side): Answer | null {
  const answer = recall<Answer | null>(keyOf(side), null);
  return answer?.phase === "failed" ? null : answer;
}

export const answers = new Answers();
