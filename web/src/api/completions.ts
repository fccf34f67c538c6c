/** A streamed reply of `/v1/chat/completions` as plain events: text, then one end. */
import { errorFrom, send } from "./client";
import { readEvents } from "./sse";
import type { Citation, SentenceCheck } from "./types";

export interface ChatMessage {
  role: string;
  content: string;
}

export interface CompletionOrder {
  model: string;
  messages: ChatMessage[];
  /** Sampling fields, already in the names of the wire. */
  sampling: Record<string, unknown>;
  /** Name of the collection that is asked first; empty: none. */
  knowledge: string;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
}

export interface Piece {
  text: string;
  receiptId?: string;
  finishReason?: string;
  usage?: Usage;
  annotations?: Citation[];
  sentences?: SentenceCheck[];
}

interface Delta {
  content?: string | null;
  annotations?: Citation[];
  sentences?: SentenceCheck[];
}

interface Chunk {
  choices?: { delta?: Delta; finish_reason?: string | null }[];
  usage?: Usage | null;
  cairn?: { receipt?: string };
  error?: unknown;
}

/** What one chunk of the stream says. Throws what the server reports in the middle of a stream. */
export function readChunk(data: string): Piece {
  const chunk = JSON.parse(data) as Chunk;
  if (chunk.error) throw errorFrom(500, chunk);
  const choice = chunk.choices?.[0];
  const piece: Piece = { text: choice?.delta?.content ?? "" };
  if (choice?.delta?.annotations) piece.annotations = choice.delta.annotations;
  if (choice?.delta?.sentences) piece.sentences = choice.delta.sentences;
  if (choice?.finish_reason) piece.finishReason = choice.finish_reason;
  if (chunk.usage) piece.usage = chunk.usage;
  if (chunk.cairn?.receipt) piece.receiptId = chunk.cairn.receipt;
  return piece;
}

/** Pieces as they arrive; the first carries the receipt and no text. Aborting the signal ends the generation. */
export async function* streamReply(
  order: CompletionOrder,
  signal: AbortSignal,
): AsyncGenerator<Piece, void, undefined> {
  const response = await send("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: order.model,
      messages: order.messages,
      ...order.sampling,
      ...(order.knowledge ? { tools: [{ type: "file_search", vector_store_ids: [order.knowledge] }] } : {}),
      stream: true,
      stream_options: { include_usage: true },
    }),
    signal,
  });
  const receiptId = response.headers.get("x-cairn-receipt");
  yield receiptId ? { text: "", receiptId } : { text: "" };
  if (!response.body) return;
  for await (const data of readEvents(response.body)) {
    if (data === "[DONE]") return;
    yield readChunk(data);
  }
  throw errorFrom(500, { message: "The reply broke off.", remedy: "Ask again; what had arrived is kept." });
}
