/** Exactly one request, as code that asks the same of the same server. */
import { anthropicBody } from "./anthropic";
import { pythonCall } from "./python";
import type { Body } from "./request";

export const LANGUAGES = [
  ["curl", "curl"],
  ["openai", "Python (openai)"],
  ["anthropic", "Python (anthropic)"],
] as const;
export type Language = (typeof LANGUAGES)[number][0];

export interface Exported {
  code: string;
  /** Why it cannot be said in this language; the code is empty then. */
  reasons: string[];
}

/** Fields of the wire for which newer Anthropic clients have no argument. */
const ANTHROPIC_EXTRA = new Set(["temperature", "top_p", "top_k"]);

const KEY = 'os.environ["CAIRN_API_KEY"]';

/** Arguments of the official client. */
const OPENAI_ARGUMENTS = new Set([
  "model",
  "messages",
  "temperature",
  "top_p",
  "max_tokens",
  "seed",
  "frequency_penalty",
  "presence_penalty",
  "n",
  "stop",
  "logit_bias",
  "logprobs",
  "top_logprobs",
  "response_format",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
  "reasoning_effort",
  "stream",
  "stream_options",
]);

export function exported(language: Language, origin: string, body: Body): Exported {
  if (language === "curl") return { code: curl(origin, body), reasons: [] };
  if (language === "openai") return { code: openai(origin, body), reasons: [] };
  const { request, reasons } = anthropicBody(body);
  return { code: reasons.length > 0 ? "" : anthropic(origin, request), reasons };
}

function curl(origin: string, body: Body): string {
  // In a quoted here-document nothing is expanded, and no line of JSON is the word that ends it.
  return `curl -sS --fail-with-body --no-buffer ${origin}/v1/chat/completions \\
  -H "Authorization: Bearer $CAIRN_API_KEY" \\
  -H "Content-Type: application/json" \\
  --data-binary @- <<'JSON'
${JSON.stringify(body, null, 2)}
JSON
`;
}

function openai(origin: string, body: Body): string {
  const values = withExtra(body, (name) => OPENAI_ARGUMENTS.has(name));
  const call = pythonCall("client.chat.completions.create", values);
  return `import os

from openai import OpenAI

client = OpenAI(base_url="${origin}/v1", api_key=${KEY})
${body.stream === true ? openaiStream(call, body) : openaiWhole(call, body)}`;
}

/** Arguments of a client; what it has none for goes into its `extra_body`. */
function withExtra(body: Body, isArgument: (name: string) => boolean): Body {
  const known = Object.entries(body).filter(([name]) => isArgument(name));
  const extra = Object.entries(body).filter(([name]) => !isArgument(name));
  return {
    ...Object.fromEntries(known),
    ...(extra.length > 0 ? { extra_body: Object.fromEntries(extra) } : {}),
  };
}

function openaiWhole(call: string, body: Body): string {
  const calls = body.tools
    ? `    for call in choice.message.tool_calls or []:
        print(call.function.name, call.function.arguments)
`
    : "";
  return `reply = ${call}
for choice in reply.choices:
    print(choice.message.content or "")
${calls}`;
}

function openaiStream(call: string, body: Body): string {
  const calls = body.tools
    ? `        for call in choice.delta.tool_calls or []:
            print(call.function.name, call.function.arguments)
`
    : "";
  const many = Number(body.n ?? 1);
  if (many > 1) {
    return `stream = ${call}
texts = [""] * ${many}
for chunk in stream:
    for choice in chunk.choices:
        texts[choice.index] += choice.delta.content or ""
${calls}print(*texts, sep="\\n")
`;
  }
  return `stream = ${call}
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
${calls}print()
`;
}

function anthropic(origin: string, request: Body): string {
  const { stream, ...rest } = request;
  const values = withExtra(rest, (name) => !ANTHROPIC_EXTRA.has(name));
  const head = `import os

from anthropic import Anthropic

client = Anthropic(base_url="${origin}", api_key=${KEY})
`;
  const calls = (from: string, indent: string) =>
    request.tools
      ? `${indent}for block in ${from}.content:
${indent}    if block.type == "tool_use":
${indent}        print(block.name, block.input)
`
      : "";
  if (stream === true) {
    return `${head}with ${pythonCall("client.messages.stream", values)} as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
    print()
${calls("stream.get_final_message()", "    ")}`;
  }
  // Without a time limit of its own the client refuses what may take long and is not streamed.
  return `${head}reply = ${pythonCall("client.messages.create", { ...values, timeout: 600 })}
print("".join(block.text for block in reply.content if block.type == "text"))
${calls("reply", "")}`;
}
