import { describe, expect, test } from "vitest";
import { bodyOf, DEFAULT_SETTINGS, functionNames } from "./request";

const SAID = [{ role: "user", content: "Hello" }] as const;
const settings = { ...DEFAULT_SETTINGS, model: "m", isStreamed: false };

describe("the body", () => {
  test("says what was set, and nothing else", () => {
    const messages = [{ role: "system", content: " " } as const, ...SAID];
    expect(bodyOf(messages, settings)).toEqual({
      body: { model: "m", messages: [{ role: "user", content: "Hello" }] },
      problems: {},
    });
  });

  test("has every setting under the name of the wire", () => {
    const { body, problems } = bodyOf(SAID, {
      ...settings,
      numbers: { temperature: 0, min_p: 0.1, n: 2 },
      stop: ["."],
      stopTokens: "1, 2",
      ignoreEos: true,
      logitBias: '{"7": -100}',
      logprobs: true,
      topLogprobs: 3,
      form: "choice",
      forms: { choice: "yes\n\nno", regex: "kept for later" },
      tools: '[{"type": "function", "function": {"name": "f"}}]',
      toolChoice: "function:f",
      isParallel: false,
      effort: "low",
      templateOptions: '{"a": 1}',
      isStreamed: true,
    });
    expect(problems).toEqual({});
    expect(body).toEqual({
      model: "m",
      messages: [{ role: "user", content: "Hello" }],
      temperature: 0,
      min_p: 0.1,
      n: 2,
      stop: ["."],
      stop_token_ids: [1, 2],
      ignore_eos: true,
      logit_bias: { "7": -100 },
      logprobs: true,
      top_logprobs: 3,
      structured_outputs: { choice: ["yes", "no"] },
      tools: [{ type: "function", function: { name: "f" } }],
      tool_choice: { type: "function", function: { name: "f" } },
      parallel_tool_calls: false,
      reasoning_effort: "low",
      chat_template_kwargs: { a: 1 },
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  test("keeps calls and their results together", () => {
    const call = { id: "call_1", type: "function", function: { name: "f", arguments: "{}" } } as const;
    const { body } = bodyOf(
      [
        ...SAID,
        { role: "assistant", content: "", tool_calls: [call] },
        { role: "tool", content: "", tool_call_id: "call_1" },
      ],
      settings,
    );
    expect(body.messages).toEqual([
      { role: "user", content: "Hello" },
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "call_1", content: "" },
    ]);
  });

  test("says where it cannot be read", () => {
    const { problems } = bodyOf([], {
      ...settings,
      model: "",
      stopTokens: "x",
      logitBias: "[]",
      form: "json_schema",
      forms: { json_schema: "{" },
      tools: "{}",
    });
    expect(Object.keys(problems).sort()).toEqual([
      "form",
      "logitBias",
      "messages",
      "model",
      "stopTokens",
      "tools",
    ]);
    expect(problems.logitBias).toBe("This is JSON, but not an object.");
    expect(problems.form).toMatch(/^This is no JSON: /);
  });
});

test("names of functions are read from what is typed so far", () => {
  expect(functionNames('[{"type": "function", "function": {"name": "f"}}, {"type": "file_search"}]')).toEqual(
    ["f"],
  );
  expect(functionNames('[{"type":')).toEqual([]);
});
