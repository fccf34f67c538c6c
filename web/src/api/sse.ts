/**
 * Server-sent events (the WHATWG grammar) from a byte stream: the data of each event, in order. Chunks may split
 * anywhere, inside a character or a line end too. Event names, ids and retry times are not used here.
 */

export class EventParser {
  #line = "";
  #data: string[] = [];
  #sawReturn = false;

  /** Data of every event that this text completes. */
  push(text: string): string[] {
    const events: string[] = [];
    for (const character of text) {
      if (character === "\n" && this.#sawReturn) {
        this.#sawReturn = false;
        continue;
      }
      this.#sawReturn = character === "\r";
      if (character === "\n" || character === "\r") this.#endLine(events);
      else this.#line += character;
    }
    return events;
  }

  #endLine(events: string[]): void {
    const line = this.#line;
    this.#line = "";
    if (line === "") {
      if (this.#data.length > 0) events.push(this.#data.join("\n"));
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    if (field !== "data") return;
    const value = colon < 0 ? "" : line.slice(colon + 1);
    this.#data.push(value.startsWith(" ") ? value.slice(1) : value);
  }
}

/** The data of each event of a response body. Leaving the loop early cancels the stream. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
