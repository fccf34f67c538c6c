import { useId, useState } from "react";
import { type NumberField, parseField } from "./number-field";
import "./number-input.css";

interface NumberInputProps {
  field: NumberField;
  value: number | null;
  onChange: (value: number | null) => void;
}

/** A number with what it means below it; what is not allowed is said there, and not taken. */
export function NumberInput({ field, value, onChange }: NumberInputProps) {
  const id = useId();
  const [text, setText] = useState(value === null ? "" : String(value));
  const isWrong = parseField(field, text) === undefined;
  return (
    <div className="number-input">
      <label className="label" htmlFor={id}>
        {field.label}
      </label>
      <input
        id={id}
        className="field numbers"
        inputMode="decimal"
        value={text}
        placeholder={field.unset}
        aria-invalid={isWrong}
        aria-describedby={`${id}-hint`}
        onChange={(event) => {
          setText(event.target.value);
          const parsed = parseField(field, event.target.value);
          if (parsed !== undefined) onChange(parsed);
        }}
      />
      <p id={`${id}-hint`} className="hint" data-wrong={isWrong || undefined}>
        {isWrong ? `${field.min} to ${field.max}${field.step >= 1 ? ", whole" : ""}` : field.hint}
      </p>
    </div>
  );
}
