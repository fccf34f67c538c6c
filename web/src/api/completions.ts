/** A streamed reply of `/v1/chat/completions` as plain events: text, then one end. */
import { errorFrom, send } from "./client";
import { readEvents } from "./sse";
import type { Citation, SearchDone, SentenceCheck, TokenLogprob, ToolCall } from "./types";

export interface ChatMessage {
  role: string;
  content: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
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
  prompt_tokens_details?: { cached_tokens?: number };
}

export interface Piece {
  text: string;
  receiptId?: string;
  finishReason?: string;
  usage?: Usage;
  annotations?: Citation[];
  sentences?: SentenceCheck[];
  search?: SearchDone;
  calls?: ToolCall[];
}

export interface Delta {
  content?: string | null;
  tool_calls?: ToolCall[] | null;
  annotations?: Citation[] | null;
  sentences?: SentenceCheck[] | null;
  search?: SearchDone | null;
}

/** The calls of a delta, without the places that a stream gives them, which a message does not take. */
export function callsIn(delta: Delta): ToolCall[] {
  return (delta.tool_calls ?? []).map(({ id, type, function: called }) => ({ id, type, function: called }));
}

export interface ChunkChoice {
  index: number;
  delta: Delta;
  logprobs?: { content: TokenLogprob[] } | null;
  finish_reason?: string | null;
}

/** A piece of an answer as it comes; the first one has the receipt alone. */
export interface Chunk {
  choices?: ChunkChoice[];
  usage?: Usage | null;
  cairn?: { receipt?: string; target?: string };
  error?: unknown;
}

/** Throws what the server reports in the middle of a stream. */
function parseChunk(data: string): Chunk {
  const chunk = JSON.parse(data) as Chunk;
  if (chunk.error) throw errorFrom(500, chunk);
  return chunk;
}

/** What a chunk says of the one reply of a chat. */
function readPiece(chunk: Chunk): Piece {
  const choice = chunk.choices?.[0];
  const piece: Piece = { text: choice?.delta?.content ?? "" };
  if (choice?.delta?.annotations) piece.annotations = choice.delta.annotations;
  if (choice?.delta?.sentences) piece.sentences = choice.delta.sentences;
  if (choice?.delta?.search) piece.search = choice.delta.search;
  if (choice?.delta?.tool_calls?.length) piece.calls = callsIn(choice.delta);
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
  const body = {
    model: order.model,
    messages: order.messages,
    ...order.sampling,
    ...(order.knowledge ? { tools: [{ type: "file_search", vector_store_ids: [order.knowledge] }] } : {}),
    stream: true,
    stream_options: { include_usage: true },
  };
  for await (const chunk of streamChunks(body, signal)) yield readPiece(chunk);
}

/** An answer as it arrives, whichever way it was asked for: one that comes whole is one chunk. */
export async function* streamChunks(
  body: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): AsyncGenerator<Chunk, void, undefined> {
  const response = await send("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  const receipt = response.headers.get("x-cairn-receipt");
  yield receipt ? { cairn: { receipt } } : {};
  if (body.stream !== true) {
    const { choices, ...rest } = (await response.json()) as Whole;
    yield { ...rest, choices: choices.map(({ message, ...choice }) => ({ ...choice, delta: message })) };
    return;
  }
  if (!response.body) return;
  for await (const data of readEvents(response.body)) {
    if (data === "[DONE]") return;
    yield parseChunk(data);
  }
  throw errorFrom(500, { message: "The reply broke off.", remedy: "Ask again; what had arrived is kept." });
}

interface Whole extends Omit<Chunk, "choices"> {
  choices: (Omit<ChunkChoice, "delta"> & { message: Delta })[];
}
