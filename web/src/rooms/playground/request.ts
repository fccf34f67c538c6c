/** What the Playground keeps of a request, and the body it becomes. Only what was set is sent. */
import type { ToolCall } from "../../api/types";
import type { NumberField } from "../../parts/number-field";
import { NUMBER_FIELDS, type NumberName } from "../chat/sampling";

export type Role = "system" | "user" | "assistant" | "tool";

export interface DraftMessage {
  role: Role;
  content: string;
  /** Of the assistant: what it called. */
  tool_calls?: ToolCall[];
  /** Of a tool: the call that it answers. */
  tool_call_id?: string;
}

export type KnobName =
  | NumberName
  | "min_p"
  | "frequency_penalty"
  | "presence_penalty"
  | "repetition_penalty"
  | "n";

export const KNOBS: readonly NumberField<KnobName>[] = [
  ...NUMBER_FIELDS.map((field) => (field.name === "temperature" ? { ...field, max: 100 } : field)),
  {
    name: "min_p",
    label: "Min-p",
    hint: "drop tokens less likely than this share of the likeliest",
    min: 0,
    max: 1,
    step: 0.01,
    unset: "0",
  },
  {
    name: "frequency_penalty",
    label: "Frequency penalty",
    hint: "taken from a token’s score each time it has come",
    min: -2,
    max: 2,
    step: 0.1,
    unset: "0",
  },
  {
    name: "presence_penalty",
    label: "Presence penalty",
    hint: "taken once from the score of a token that has come",
    min: -2,
    max: 2,
    step: 0.1,
    unset: "0",
  },
  {
    name: "repetition_penalty",
    label: "Repetition penalty",
    hint: "above 1 shrinks the scores of tokens seen, the prompt’s too",
    min: 0.01,
    max: 100,
    step: 0.05,
    unset: "1",
  },
  {
    name: "n",
    label: "Replies",
    hint: "how many, each sampled for itself",
    min: 1,
    max: 128,
    step: 1,
    unset: "1",
  },
];

export const TOP_LOGPROBS: NumberField = {
  name: "top_logprobs",
  label: "Alternatives",
  hint: "of each token, the likeliest others",
  min: 0,
  max: 20,
  step: 1,
  unset: "0",
};

/** What a reply may be held to; each keeps its own text, so that trying another loses nothing. */
export const FORMS = [
  ["text", "Anything"],
  ["json_object", "Any JSON object"],
  ["json_schema", "A JSON schema"],
  ["regex", "A regular expression"],
  ["choice", "One of a few texts"],
  ["grammar", "A grammar (EBNF)"],
] as const;
export type Form = (typeof FORMS)[number][0];

export interface Settings {
  model: string;
  numbers: Partial<Record<KnobName, number>>;
  stop: string[];
  stopTokens: string;
  ignoreEos: boolean;
  logitBias: string;
  logprobs: boolean;
  topLogprobs: number | null;
  form: Form;
  forms: Partial<Record<Form, string>>;
  tools: string;
  /** Empty: the server's own; `function:NAME` forces one. */
  toolChoice: string;
  isParallel: boolean;
  effort: string;
  templateOptions: string;
  isStreamed: boolean;
}

export const DEFAULT_SETTINGS: Settings = {
  model: "",
  numbers: {},
  stop: [],
  stopTokens: "",
  ignoreEos: false,
  logitBias: "",
  logprobs: false,
  topLogprobs: null,
  form: "text",
  forms: {},
  tools: "",
  toolChoice: "",
  isParallel: true,
  effort: "",
  templateOptions: "",
  isStreamed: true,
};

export type Body = Record<string, unknown>;
export type Problems = Partial<Record<keyof Settings | "messages", string>>;

export interface Made {
  body: Body;
  /** By field; with one of these the body is not sent. */
  problems: Problems;
}

/** The names of the functions that the tools define, as far as they can be read. */
export function functionNames(tools: string): string[] {
  const parsed = parseJson(tools);
  if (!Array.isArray(parsed)) return [];
  return parsed.flatMap((tool) => {
    const name: unknown = tool?.function?.name;
    return typeof name === "string" ? [name] : [];
  });
}

export function bodyOf(messages: readonly DraftMessage[], settings: Settings): Made {
  const problems: Problems = {};
  const body: Body = { model: settings.model, messages: messages.filter(isSaid).map(onWire) };
  if (settings.model === "") problems.model = "No model is chosen.";
  if (!messages.some(isSaid)) problems.messages = "Nothing is said yet.";
  for (const { name } of KNOBS) {
    const value = settings.numbers[name];
    if (value !== undefined) body[name] = value;
  }
  if (settings.stop.length > 0) body.stop = settings.stop;
  if (settings.stopTokens.trim() !== "") {
    const ids = settings.stopTokens.split(/[\s,]+/).filter(Boolean);
    if (ids.every((id) => /^\d+$/.test(id))) body.stop_token_ids = ids.map(Number);
    else problems.stopTokens = "Token ids are whole numbers, with commas between them.";
  }
  if (settings.ignoreEos) body.ignore_eos = true;
  object("logitBias", "logit_bias");
  if (settings.logprobs) {
    body.logprobs = true;
    if (settings.topLogprobs !== null) body.top_logprobs = settings.topLogprobs;
  }
  addForm(settings, body, problems);
  addTools(settings, body, problems);
  if (settings.effort !== "") body.reasoning_effort = settings.effort;
  object("templateOptions", "chat_template_kwargs");
  if (settings.isStreamed) Object.assign(body, { stream: true, stream_options: { include_usage: true } });
  return { body, problems };

  function object(field: "logitBias" | "templateOptions", name: string): void {
    const value = parseJson(settings[field]);
    if (value === undefined) return;
    if (isObject(value)) body[name] = value;
    else problems[field] = notJson(settings[field], "an object");
  }
}

function addForm(settings: Settings, body: Body, problems: Problems): void {
  const { form } = settings;
  const text = settings.forms[form] ?? "";
  if (form === "text") return;
  if (form === "json_object") {
    body.response_format = { type: form };
  } else if (form === "json_schema") {
    const schema = parseJson(text);
    if (isObject(schema)) body.response_format = { type: form, json_schema: { name: "reply", schema } };
    else problems.form = text.trim() === "" ? "The schema is missing." : notJson(text, "an object");
  } else if (form === "choice") {
    const choice = text.split("\n").filter((line) => line !== "");
    if (choice.length > 0) body.structured_outputs = { choice };
    else problems.form = "The texts are missing.";
  } else if (text.trim() === "") {
    problems.form = form === "regex" ? "The expression is missing." : "The grammar is missing.";
  } else {
    body.structured_outputs = { [form]: text };
  }
}

function addTools(settings: Settings, body: Body, problems: Problems): void {
  const tools = parseJson(settings.tools);
  if (tools === undefined) return;
  if (!Array.isArray(tools)) {
    problems.tools = notJson(settings.tools, "a list");
    return;
  }
  body.tools = tools;
  const [kind, name] = settings.toolChoice.split(":", 2);
  if (kind === "function") body.tool_choice = { type: "function", function: { name } };
  else if (kind) body.tool_choice = kind;
  if (!settings.isParallel) body.parallel_tool_calls = false;
}

/** What was left blank is not sent; a tool's empty result is one. */
function isSaid(message: DraftMessage): boolean {
  return message.content.trim() !== "" || message.role === "tool" || (message.tool_calls ?? []).length > 0;
}

function onWire({ role, content, tool_calls, tool_call_id }: DraftMessage): Body {
  if (role === "tool") return { role, tool_call_id: tool_call_id ?? "", content };
  if (role === "assistant" && tool_calls?.length) return { role, content: content || null, tool_calls };
  return { role, content };
}

/** The value; undefined of an empty text, null of one that is no JSON. */
function parseJson(text: string): unknown {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Why a text is not what it should be, as the reader of JSON says it. */
function notJson(text: string, wanted: string): string {
  try {
    JSON.parse(text);
    return `This is JSON, but not ${wanted}.`;
  } catch (error) {
    return error instanceof Error ? `This is no JSON: ${error.message}.` : "This is no JSON.";
  }
}
