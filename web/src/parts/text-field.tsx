import { type ReactNode, useId } from "react";

interface TextFieldProps {
  label: ReactNode;
  value: string;
  onChange: (value: string) => void;
  type?: "text" | "password";
  autoComplete?: string;
  inputMode?: "text" | "decimal";
  placeholder?: string;
  minLength?: number;
  maxLength?: number;
}

/** A line of text under its label. */
export function TextField({
  label,
  onChange,
  type = "text",
  autoComplete = "off",
  maxLength = type === "password" ? 1000 : 200,
  ...input
}: TextFieldProps) {
  const id = useId();
  return (
    <div>
      <label className="label" htmlFor={id}>
        {label}
      </label>
      <input
        {...input}
        id={id}
        className="field"
        type={type}
        autoComplete={autoComplete}
        maxLength={maxLength}
        spellCheck={false}
        onChange={(event) => onChange(event.target.value)}
      />
    </div>
  );
}
