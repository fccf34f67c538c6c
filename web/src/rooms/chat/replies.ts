/**
 * Replies being written. They live outside the page's components, so that a reply goes on while the reader looks at
 * another conversation. A stopped or broken reply keeps what had arrived; the turn is stored before the live reply
 * goes, so that nothing flickers or is lost.
 */
import type { QueryClient } from "@tanstack/react-query";
import { ApiError } from "../../api/client";
import { type CompletionOrder, streamReply, type Usage } from "../../api/completions";
import { storeTurn } from "../../api/queries";
import type { Citation, NewTurn, SearchDone, SentenceCheck, ToolCall, Turn } from "../../api/types";

export interface Reply {
  conversationId: string;
  /** The user's turn it answers. */
  parentId: string;
  order: CompletionOrder;
  phase: "waiting" | "writing" | "storing" | "failed";
  text: string;
  receiptId: string | null;
  error: unknown;
  /** Pieces so far: about as many as tokens. */
  pieces: number;
  /** Milliseconds from asking to the first text, and from there to the last. */
  firstMs: number;
  writingMs: number;
  finishReason: string;
  usage: Usage | null;
  annotations: Citation[];
  sentences: SentenceCheck[];
  search: SearchDone | null;
  calls: ToolCall[];
}

/** What is known about a stored reply until the page is loaded anew. */
export type ReplyNote = Pick<Reply, "usage" | "pieces" | "firstMs" | "writingMs" | "finishReason">;

/** The page is told this often; less often for a long text, whose drawing takes longer. */
const NOTIFY_MS = 40;
const CHARACTERS_PER_MS = 100;

export class Replies {
  #replies = new Map<string, Reply>();
  #controllers = new Map<string, AbortController>();
  #notes = new Map<string, ReplyNote>();
  #listeners = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #isLeaving = false;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  of(conversationId: string): Reply | undefined {
    return this.#replies.get(conversationId);
  }

  noteOf(messageId: string): ReplyNote | undefined {
    return this.#notes.get(messageId);
  }

  /** Conversations in which a reply is being written. */
  busy(): string[] {
    return [...this.#controllers.keys()];
  }

  /** Ask, stream and store. Never rejects: a failure becomes the reply's `error`. */
  async start(
    client: QueryClient,
    conversationId: string,
    parentId: string,
    order: CompletionOrder,
  ): Promise<void> {
    if (this.#controllers.has(conversationId)) return;
    const controller = new AbortController();
    this.#controllers.set(conversationId, controller);
    this.#replies.set(conversationId, {
      conversationId,
      parentId,
      order,
      phase: "waiting",
      text: "",
      receiptId: null,
      error: null,
      pieces: 0,
      firstMs: 0,
      writingMs: 0,
      finishReason: "",
      usage: null,
      annotations: [],
      sentences: [],
      search: null,
      calls: [],
    });
    this.#notify();
    await this.#receive(conversationId, order, controller.signal);
    await this.#store(client, conversationId);
    this.#controllers.delete(conversationId);
    this.#notify();
  }

  /** End the generation; what has arrived is kept. */
  stop(conversationId: string): void {
    this.#controllers.get(conversationId)?.abort();
  }

  /** Forget a failed reply. */
  dismiss(conversationId: string): void {
    if (this.#controllers.has(conversationId)) return;
    this.#replies.delete(conversationId);
    this.#notify();
  }

  /** The page is going away: stop everything, and store what has arrived with requests that outlive it. */
  leave(): void {
    this.#isLeaving = true;
    for (const controller of this.#controllers.values()) controller.abort();
  }

  async #receive(id: string, order: CompletionOrder, signal: AbortSignal): Promise<void> {
    const asked = performance.now();
    let first = 0;
    try {
      for await (const piece of streamReply(order, signal)) {
        const reply = this.#replies.get(id);
        if (!reply) return;
        const next = { ...reply };
        if (piece.receiptId) next.receiptId = piece.receiptId;
        if (piece.finishReason) next.finishReason = piece.finishReason;
        if (piece.usage) next.usage = piece.usage;
        if (piece.annotations) next.annotations = piece.annotations;
        if (piece.sentences) next.sentences = piece.sentences;
        if (piece.search) next.search = piece.search;
        if (piece.calls) next.calls = [...reply.calls, ...piece.calls];
        if (piece.text || piece.calls) {
          const now = performance.now();
          if (next.pieces === 0) first = now;
          next.pieces += 1;
          next.text += piece.text;
          next.phase = "writing";
          next.firstMs = first - asked;
          next.writingMs = now - first;
        }
        this.#replies.set(id, next);
        this.#notifySoon(Math.max(NOTIFY_MS, next.text.length / CHARACTERS_PER_MS));
      }
    } catch (error) {
      if (signal.aborted) this.#change(id, { finishReason: "stopped" });
      else this.#change(id, { error });
    }
  }

  async #store(client: QueryClient, id: string): Promise<void> {
    const reply = this.#replies.get(id);
    if (!reply) return;
    if (isWorthKeeping(reply)) {
      this.#change(id, { phase: "storing" });
      try {
        const stored = await storeReply(client, reply, this.#isLeaving);
        const { usage, pieces, firstMs, writingMs, finishReason } = reply;
        this.#notes.set(stored.id, { usage, pieces, firstMs, writingMs, finishReason });
      } catch (error) {
        this.#change(id, { phase: "failed", error });
        return;
      }
    }
    if (reply.error) this.#change(id, { phase: "failed", text: "", calls: [] });
    else this.#replies.delete(id);
  }

  #change(id: string, change: Partial<Reply>): void {
    const reply = this.#replies.get(id);
    if (reply) this.#replies.set(id, { ...reply, ...change });
    this.#notify();
  }

  #notifySoon(delayMs: number): void {
    this.#timer ??= setTimeout(() => this.#notify(), delayMs);
  }

  #notify(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    for (const listener of this.#listeners) listener();
  }
}

/** Whether anything has come. */
export function isWorthKeeping({ text, calls }: Reply): boolean {
  return text !== "" || calls.length > 0;
}

async function storeReply(client: QueryClient, reply: Reply, isLeaving: boolean): Promise<Turn> {
  const { annotations, sentences, search, calls, parentId } = reply;
  const turn: NewTurn = {
    role: "assistant",
    content: reply.text,
    parent_id: parentId,
    annotations,
    sentences,
    search,
    tool_calls: calls,
  };
  const init: RequestInit = isLeaving ? { keepalive: true } : {};
  try {
    return await storeTurn(client, reply.conversationId, { ...turn, receipt_id: reply.receiptId }, init);
  } catch (error) {
    // A reply cut off in its first moment may have no receipt yet; the text is worth keeping all the same.
    if (!(error instanceof ApiError) || error.status !== 404 || reply.receiptId === null) throw error;
    return await storeTurn(client, reply.conversationId, turn, init);
  }
}

export const replies = new Replies();
