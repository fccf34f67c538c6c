import { describe, expect, test } from "vitest";
import { anthropicBody } from "./anthropic";
import { exported } from "./export";
import { python } from "./python";

const ORIGIN = "http://127.0.0.1:8642";
const BODY = { model: "m", messages: [{ role: "user", content: "Say \"hi\"\nto 'me' $HOME `id`" }] };

test("values are said as Python says them", () => {
  expect(python({ a: [true, false, null, 1.5, 'q"'] })).toBe('{"a": [True, False, None, 1.5, "q\\""]}');
  expect(python(["x".repeat(60), "y".repeat(60)])).toBe(
    `[\n    "${"x".repeat(60)}",\n    "${"y".repeat(60)}",\n]`,
  );
});

describe("code", () => {
  test("of curl holds the body as it is", () => {
    const { code } = exported("curl", ORIGIN, BODY);
    const [, json] = /<<'JSON'\n(.*)\nJSON\n$/s.exec(code) ?? [];
    expect(JSON.parse(json ?? "")).toEqual(BODY);
  });

  test("of the openai client puts what it has no argument for beside", () => {
    const { code } = exported("openai", ORIGIN, { ...BODY, temperature: 0, top_k: 5, ignore_eos: true });
    expect(code).toContain("    temperature=0,\n");
    expect(code).toContain('    extra_body={"top_k": 5, "ignore_eos": True},\n');
  });

  test("of the anthropic client is not there for what it cannot say", () => {
    const { code, reasons } = exported("anthropic", ORIGIN, { ...BODY, seed: 1 });
    expect(code).toBe("");
    expect(reasons).toEqual([
      "Anthropic’s messages have no seed.",
      "Anthropic’s messages need a number of most tokens.",
    ]);
  });
});

describe("as Anthropic’s message", () => {
  const call = { id: "c1", type: "function", function: { name: "f", arguments: '{"a": 1}' } };

  test("a conversation with calls", () => {
    const { request, reasons } = anthropicBody({
      model: "m",
      max_tokens: 9,
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Go" },
        { role: "assistant", content: null, tool_calls: [call] },
        { role: "tool", tool_call_id: "c1", content: "ok" },
        { role: "user", content: "And?" },
      ],
      stop: ["."],
      tools: [{ type: "function", function: { name: "f" } }],
      tool_choice: "required",
      parallel_tool_calls: false,
      response_format: { type: "json_schema", json_schema: { name: "reply", schema: { type: "object" } } },
    });
    expect(reasons).toEqual([]);
    expect(request).toEqual({
      model: "m",
      max_tokens: 9,
      system: "Be brief.",
      messages: [
        { role: "user", content: "Go" },
        { role: "assistant", content: [{ type: "tool_use", id: "c1", name: "f", input: { a: 1 } }] },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "c1", content: "ok" },
            { type: "text", text: "And?" },
          ],
        },
      ],
      stop_sequences: ["."],
      tools: [{ name: "f", input_schema: {} }],
      tool_choice: { type: "any", disable_parallel_tool_use: true },
      output_config: { format: { type: "json_schema", schema: { type: "object" } } },
    });
  });

  test("what would be read otherwise is refused", () => {
    const reasonsOf = (messages: unknown[]) => anthropicBody({ model: "m", max_tokens: 1, messages }).reasons;
    const user = { role: "user", content: "a" };
    expect(reasonsOf([user, user])).toHaveLength(1);
    expect(reasonsOf([user, { role: "assistant", content: "b" }])).toHaveLength(1);
    expect(reasonsOf([user, { role: "system", content: "b" }, user])).toHaveLength(1);
    expect(reasonsOf([{ role: "system", content: "b" }])).toHaveLength(1);
  });
});
