/** Fields of the Playground, each with its label and what is wrong with it. */
import { type ReactNode, useId } from "react";
import { Choice } from "../../parts/filter";

interface CodeFieldProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  problem?: string | undefined;
  placeholder?: string;
  rows?: number;
  children?: ReactNode;
}

export function CodeField({
  label,
  value,
  onChange,
  problem,
  placeholder,
  rows = 2,
  children,
}: CodeFieldProps) {
  const id = useId();
  return (
    <div>
      <div className="play-label">
        <label className="label" htmlFor={id}>
          {label}
        </label>
        {children}
      </div>
      <textarea
        id={id}
        className="field mono"
        rows={rows}
        spellCheck={false}
        value={value}
        placeholder={placeholder}
        aria-invalid={problem !== undefined}
        aria-describedby={problem === undefined ? undefined : `${id}-problem`}
        onChange={(event) => onChange(event.target.value)}
      />
      {problem === undefined ? null : (
        <p id={`${id}-problem`} className="play-problem">
          {problem}
        </p>
      )}
    </div>
  );
}

interface ChoiceFieldProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  options: readonly (readonly [value: string, text: string])[];
}

export function ChoiceField(props: ChoiceFieldProps) {
  return (
    <div className="play-choice">
      <span className="label" aria-hidden>
        {props.label}
      </span>
      <Choice {...props} />
    </div>
  );
}

interface CheckProps {
  isOn: boolean;
  onChange: (isOn: boolean) => void;
  children: ReactNode;
}

export function Check({ isOn, onChange, children }: CheckProps) {
  return (
    <label className="check">
      <input type="checkbox" checked={isOn} onChange={(event) => onChange(event.target.checked)} />
      {children}
    </label>
  );
}

interface SegmentsProps<Value extends string> {
  label: string;
  name: string;
  value: Value;
  onChange: (value: Value) => void;
  options: readonly (readonly [value: Value, text: string])[];
}

/** One of a few, all of them in sight. */
export function Segments<Value extends string>(props: SegmentsProps<Value>) {
  const { label, name, value, onChange, options } = props;
  return (
    <fieldset className="segments">
      <legend className="hidden-visually">{label}</legend>
      {options.map(([option, text]) => (
        <label key={option}>
          <input
            className="hidden-visually"
            type="radio"
            name={name}
            checked={value === option}
            onChange={() => onChange(option)}
          />
          {text}
        </label>
      ))}
    </fieldset>
  );
}
