import { describe, expect, test } from "vitest";
import { EventParser, readEvents } from "./sse";

const STREAM = ': hello\r\ndata: {"a":1}\r\n\r\nevent: x\ndata: one\ndata: two\n\ndata:[DONE]\r\r';
const EVENTS = ['{"a":1}', "one\ntwo", "[DONE]"];

describe("EventParser", () => {
  test("gives the data of each event, comments and other fields left out", () => {
    expect(new EventParser().push(STREAM)).toEqual(EVENTS);
  });

  test("does not care where the text is cut", () => {
    for (let cut = 0; cut <= STREAM.length; cut++) {
      const parser = new EventParser();
      const events = [...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))];
      expect(events).toEqual(EVENTS);
    }
  });

  test("an event without its empty line is not given", () => {
    expect(new EventParser().push("data: half")).toEqual([]);
  });
});

describe("readEvents", () => {
  test("puts characters cut in half back together", async () => {
    const bytes = new TextEncoder().encode("data: Gänseblümchen 🪨\n\n");
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
        controller.close();
      },
    });
    const events: string[] = [];
    for await (const event of readEvents(body)) events.push(event);
    expect(events).toEqual(["Gänseblümchen 🪨"]);
  });

  test("cancels the stream when the reader leaves", async () => {
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(new TextEncoder().encode("data: x\n\n"));
      },
      cancel() {
        cancelled = true;
      },
    });
    for await (const _ of readEvents(body)) break;
    expect(cancelled).toBe(true);
  });
});
