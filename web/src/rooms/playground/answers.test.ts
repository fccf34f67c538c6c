import { expect, test } from "vitest";
import { type Answer, withChunk } from "./answers";
import { band, percent, shownToken } from "./tokens";

const EMPTY = { choices: [], usage: null, receiptId: "", target: "" } as unknown as Answer;

test("chunks of several replies are put together, each its own", () => {
  const token = { token: " b", logprob: -0.1, bytes: null, top_logprobs: [] };
  const call = { id: "c", type: "function", function: { name: "f", arguments: "{}" } } as const;
  const chunks = [
    { cairn: { receipt: "rcpt_1" } },
    { choices: [{ index: 1, delta: { content: "a" } }] },
    { choices: [{ index: 1, delta: { content: " b" }, logprobs: { content: [token] } }] },
    { choices: [{ index: 0, delta: { tool_calls: [call] } }] },
    { choices: [{ index: 0, delta: {}, finish_reason: "tool_calls" }] },
    { choices: [], usage: { prompt_tokens: 1, completion_tokens: 2 } },
  ];
  const answer = chunks.reduce(withChunk, EMPTY);
  expect(answer.receiptId).toBe("rcpt_1");
  expect(answer.usage?.completion_tokens).toBe(2);
  expect(answer.choices[0]).toMatchObject({ text: "", calls: [call], finishReason: "tool_calls" });
  expect(answer.choices[1]).toMatchObject({ text: "a b", tokens: [token], finishReason: "" });
  expect(EMPTY.choices).toEqual([]);
});

test("likelihoods are told in bands and percents", () => {
  expect([0, Math.log(0.5), Math.log(0.2), -9].map(band)).toEqual([0, 1, 2, 3]);
  expect([0, Math.log(0.5), Math.log(0.0512), -20].map(percent)).toEqual(["100%", "50.0%", "5.12%", "<0.1%"]);
  expect(shownToken(" a\n")).toBe("␣a⏎");
});
