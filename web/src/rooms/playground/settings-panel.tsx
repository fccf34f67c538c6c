/** Everything that a request may say besides its messages. */
import { useState } from "react";
import { NumberInput } from "../../parts/number-input";
import { Check, ChoiceField, CodeField } from "./fields";
import {
  DEFAULT_SETTINGS,
  FORMS,
  type Form,
  functionNames,
  KNOBS,
  type Problems,
  type Settings,
  TOP_LOGPROBS,
} from "./request";

interface SettingsPanelProps {
  settings: Settings;
  problems: Problems;
  onChange: (settings: Settings) => void;
}

const EXAMPLES: Partial<Record<Form, string>> = {
  json_schema: '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}',
  regex: "(yes|no), because .{1,80}",
  choice: "yes\nno",
  grammar: 'root ::= "yes" | "no"',
};
const TOOL_EXAMPLE = [
  {
    type: "function",
    function: {
      name: "weather",
      description: "The weather at a place",
      parameters: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
    },
  },
];
const EFFORTS = [
  ["", "The model’s own"],
  ["low", "low"],
  ["medium", "medium"],
  ["high", "high"],
] as const;

export function SettingsPanel({ settings, problems, onChange }: SettingsPanelProps) {
  // The number fields keep their own text; a reset makes them anew.
  const [round, setRound] = useState(0);
  const change = (some: Partial<Settings>) => onChange({ ...settings, ...some });
  return (
    <div className="play-settings" key={round}>
      <details open>
        <summary>Sampling</summary>
        <div className="play-fields">
          {KNOBS.map((field) => (
            <NumberInput
              key={field.name}
              field={field}
              value={settings.numbers[field.name] ?? null}
              onChange={(value) => {
                const { [field.name]: _, ...rest } = settings.numbers;
                change({ numbers: value === null ? rest : { ...rest, [field.name]: value } });
              }}
            />
          ))}
          <CodeField
            label="Stop strings, one a line"
            value={settings.stop.join("\n")}
            placeholder="None"
            onChange={(text) => change({ stop: text === "" ? [] : text.split("\n") })}
            problem={problems.stop}
          />
        </div>
      </details>
      <details open={settings.logprobs || undefined}>
        <summary>Token probabilities</summary>
        <div className="play-fields">
          <Check isOn={settings.logprobs} onChange={(logprobs) => change({ logprobs })}>
            Log-probabilities of the reply’s tokens
          </Check>
          {settings.logprobs ? (
            <NumberInput
              field={TOP_LOGPROBS}
              value={settings.topLogprobs}
              onChange={(topLogprobs) => change({ topLogprobs })}
            />
          ) : null}
        </div>
      </details>
      <FormFields settings={settings} problem={problems.form} change={change} />
      <ToolFields settings={settings} problem={problems.tools} change={change} />
      <details>
        <summary>More</summary>
        <div className="play-fields">
          <Check isOn={settings.isStreamed} onChange={(isStreamed) => change({ isStreamed })}>
            Streamed
          </Check>
          <Check isOn={settings.ignoreEos} onChange={(ignoreEos) => change({ ignoreEos })}>
            Go on past the model’s end token
          </Check>
          <ChoiceField
            label="Reasoning effort"
            value={settings.effort}
            onChange={(effort) => change({ effort })}
            options={EFFORTS}
          />
          <CodeField
            label="Stop token ids"
            value={settings.stopTokens}
            placeholder="2, 32000"
            rows={1}
            onChange={(stopTokens) => change({ stopTokens })}
            problem={problems.stopTokens}
          />
          <CodeField
            label="Bias of tokens (JSON)"
            value={settings.logitBias}
            placeholder={'{"198": -100}'}
            onChange={(logitBias) => change({ logitBias })}
            problem={problems.logitBias}
          />
          <CodeField
            label="Variables of the chat template (JSON)"
            value={settings.templateOptions}
            placeholder={'{"enable_thinking": false}'}
            onChange={(templateOptions) => change({ templateOptions })}
            problem={problems.templateOptions}
          />
        </div>
      </details>
      <button
        type="button"
        className="button"
        onClick={() => {
          onChange({ ...DEFAULT_SETTINGS, model: settings.model });
          setRound(round + 1);
        }}
      >
        Back to the server’s own
      </button>
    </div>
  );
}

interface PartProps {
  settings: Settings;
  problem: string | undefined;
  change: (some: Partial<Settings>) => void;
}

function FormFields({ settings, problem, change }: PartProps) {
  const { form, forms } = settings;
  const label = FORMS.find(([name]) => name === form)?.[1] ?? "";
  const example = EXAMPLES[form];
  const set = (text: string) => change({ forms: { ...forms, [form]: text } });
  return (
    <details open={form !== "text" || undefined}>
      <summary>Form of the reply</summary>
      <div className="play-fields">
        <ChoiceField
          label="Held to"
          value={form}
          onChange={(value) => change({ form: value as Form })}
          options={FORMS}
        />
        {example === undefined ? null : (
          <CodeField
            label={form === "choice" ? "The texts, one a line" : label}
            value={forms[form] ?? ""}
            rows={5}
            onChange={set}
            problem={problem}
          >
            {forms[form] ? null : (
              <button
                type="button"
                className="link-button small"
                onClick={() => set(indented(example, form))}
              >
                An example
              </button>
            )}
          </CodeField>
        )}
      </div>
    </details>
  );
}

function indented(example: string, form: Form): string {
  return form === "json_schema" ? JSON.stringify(JSON.parse(example), null, 2) : example;
}

function ToolFields({ settings, problem, change }: PartProps) {
  const { tools, toolChoice } = settings;
  const options = [
    ["", "The server’s own"],
    ["auto", "as the model likes"],
    ["none", "none is called"],
    ["required", "one is called"],
    ...functionNames(tools).map((name) => [`function:${name}`, `${name} is called`] as const),
  ] as const;
  return (
    <details open={tools !== "" || undefined}>
      <summary>Tools</summary>
      <div className="play-fields">
        <CodeField
          label="Tools (JSON)"
          value={tools}
          rows={tools === "" ? 2 : 8}
          placeholder="None"
          onChange={(text) => change({ tools: text })}
          problem={problem}
        >
          {tools === "" ? (
            <button
              type="button"
              className="link-button small"
              onClick={() => change({ tools: JSON.stringify(TOOL_EXAMPLE, null, 2) })}
            >
              An example
            </button>
          ) : null}
        </CodeField>
        {tools === "" ? null : (
          <>
            <ChoiceField
              label="Calls"
              value={toolChoice}
              onChange={(value) => change({ toolChoice: value })}
              options={options}
            />
            <Check isOn={settings.isParallel} onChange={(isParallel) => change({ isParallel })}>
              Several calls in one reply
            </Check>
          </>
        )}
      </div>
    </details>
  );
}
