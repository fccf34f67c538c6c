/** A chat request as one of Anthropic's messages, where it can be said so. */
import type { Body } from "./request";

export interface AnthropicRequest {
  request: Body;
  /** What it cannot say, a sentence each. */
  reasons: string[];
}

interface Message {
  role: string;
  content: string | null;
  tool_calls?: { id: string; function: { name: string; arguments: string } }[];
  tool_call_id?: string;
}

interface Tool {
  type: string;
  function?: { name: string; description?: string; parameters?: unknown };
}

/** Fields whose meaning is the same; the others are translated, or have no place. */
const SAME = ["model", "max_tokens", "temperature", "top_p", "top_k", "tools", "stream"];
const TRANSLATED = [
  "messages",
  "stop",
  "stream_options",
  "response_format",
  "tool_choice",
  "parallel_tool_calls",
  "reasoning_effort",
];
const EFFORTS = ["low", "medium", "high", "xhigh", "max"];

export function anthropicBody(body: Body): AnthropicRequest {
  const reasons: string[] = [];
  const request: Body = {};
  for (const name of SAME) if (body[name] !== undefined) request[name] = body[name];
  for (const name of Object.keys(body)) {
    const isOne = name === "n" && body.n === 1;
    if (!SAME.includes(name) && !TRANSLATED.includes(name) && !isOne) {
      reasons.push(`Anthropic’s messages have no ${name}.`);
    }
  }
  if (body.max_tokens === undefined) reasons.push("Anthropic’s messages need a number of most tokens.");
  if (body.stop !== undefined) request.stop_sequences = body.stop;
  addMessages(body, request, reasons);
  addTools(body, request, reasons);
  addOutput(body, request, reasons);
  return { request, reasons };
}

function addMessages(body: Body, request: Body, reasons: string[]): void {
  const messages = [...(body.messages as Message[])];
  if (messages[0]?.role === "system") request.system = messages.shift()?.content;
  if (messages.some(({ role }) => role === "system")) {
    reasons.push("Anthropic’s messages have one system text, before all others.");
  }
  if (messages.length === 0) reasons.push("Anthropic’s messages need one of the user.");
  if (messages.at(-1)?.role === "assistant") reasons.push("Anthropic’s messages end with the user’s.");
  const turns: { role: string; content: unknown }[] = [];
  let before = "";
  for (const message of messages) {
    if (message.role === before && before !== "tool") {
      reasons.push("Anthropic’s messages join those of one role that follow each other.");
    }
    const last = turns.at(-1);
    if (message.role === "tool") {
      const result = { type: "tool_result", tool_use_id: message.tool_call_id, content: message.content };
      if (before === "tool" && Array.isArray(last?.content)) last.content.push(result);
      else turns.push({ role: "user", content: [result] });
    } else if (message.role === "user" && before === "tool" && Array.isArray(last?.content)) {
      // Results and what is said after them are one turn of the user's.
      last.content.push({ type: "text", text: message.content });
    } else {
      turns.push({ role: message.role, content: contentOf(message, reasons) });
    }
    before = message.role;
  }
  request.messages = turns;
}

function contentOf({ content, tool_calls }: Message, reasons: string[]): unknown {
  if (!tool_calls?.length) return content;
  const uses = tool_calls.map((call) => {
    let input: unknown = {};
    try {
      input = JSON.parse(call.function.arguments || "{}");
    } catch {
      reasons.push(`The arguments of ${call.function.name} are no JSON.`);
    }
    return { type: "tool_use", id: call.id, name: call.function.name, input };
  });
  return content ? [{ type: "text", text: content }, ...uses] : uses;
}

function addTools(body: Body, request: Body, reasons: string[]): void {
  const choice = body.tool_choice as string | { function?: { name: string } } | undefined;
  const isAlone = body.parallel_tool_calls === false;
  if (body.tools === undefined) return;
  request.tools = (body.tools as Tool[]).map((tool) => {
    if (!tool.function) reasons.push(`Anthropic’s messages have no tool of the type ${tool.type}.`);
    const { name, description, parameters } = tool.function ?? { name: "" };
    return {
      name,
      ...(description ? { description } : {}),
      input_schema: parameters ?? {},
    };
  });
  if (choice === undefined && !isAlone) return;
  const named = typeof choice === "object" ? choice.function?.name : undefined;
  const type = named ? "tool" : choice === "required" ? "any" : choice === "none" ? "none" : "auto";
  request.tool_choice = {
    type,
    ...(named ? { name: named } : {}),
    ...(isAlone && type !== "none" ? { disable_parallel_tool_use: true } : {}),
  };
}

function addOutput(body: Body, request: Body, reasons: string[]): void {
  const output: Body = {};
  const effort = body.reasoning_effort;
  if (typeof effort === "string") {
    if (EFFORTS.includes(effort)) output.effort = effort;
    else reasons.push(`Anthropic’s messages know no effort ${effort}.`);
  }
  const format = body.response_format as { type: string; json_schema?: { schema: unknown } } | undefined;
  if (format?.json_schema) output.format = { type: "json_schema", schema: format.json_schema.schema };
  else if (format) reasons.push(`Anthropic’s messages have no form ${format.type}.`);
  if (Object.keys(output).length > 0) request.output_config = output;
}
