import { ChevronDown, Search } from "lucide-react";

interface FilterProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  placeholder?: string;
}

/** The text filter above a list. */
export function Filter({ label, value, onChange, placeholder = "Filter" }: FilterProps) {
  return (
    <div className="filter">
      <Search size={15} aria-hidden />
      <input
        type="search"
        className="field"
        aria-label={label}
        placeholder={placeholder}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
    </div>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  options: readonly (readonly [value: string, text: string])[];
}

/** One of a few, in the browser's own list. */
export function Choice({ label, value, onChange, options }: ChoiceProps) {
  return (
    <span className="select-box">
      <select
        className="select"
        aria-label={label}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      >
        {options.map(([option, text]) => (
          <option key={option} value={option}>
            {text}
          </option>
        ))}
      </select>
      <ChevronDown size={14} aria-hidden />
    </span>
  );
}
