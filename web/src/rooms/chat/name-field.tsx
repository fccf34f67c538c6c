import { useRef, useState } from "react";

interface NameFieldProps {
  label: string;
  name: string;
  maxLength: number;
  /** The new name, or null when it stays. */
  onDone: (name: string | null) => void;
}

/** A name that is changed where it stands: Enter keeps it, Esc does not. */
export function NameField({ label, name, maxLength, onDone }: NameFieldProps) {
  const [text, setText] = useState(name);
  const isDone = useRef(false);
  const finish = (result: string | null) => {
    if (isDone.current) return;
    isDone.current = true;
    onDone(result);
  };
  return (
    <input
      ref={(input) => input?.focus()}
      className="field"
      aria-label={label}
      value={text}
      maxLength={maxLength}
      onChange={(event) => setText(event.target.value)}
      onFocus={(event) => event.target.select()}
      onBlur={() => finish(text.trim())}
      onKeyDown={(event) => {
        if (event.key === "Enter") finish(text.trim());
        if (event.key === "Escape") {
          event.stopPropagation();
          finish(null);
        }
      }}
    />
  );
}
