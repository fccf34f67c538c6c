import { X } from "lucide-react";

interface ChipsProps<Name extends string> {
  chips: readonly (readonly [name: Name, value: string | undefined])[];
  /** What a name is called, where it is not what people call it. */
  titles?: Record<Name, string>;
  onRemove: (name: Name) => void;
}

/** What a list is narrowed to; each can be taken away. */
export function Chips<Name extends string>({ chips, titles, onRemove }: ChipsProps<Name>) {
  if (chips.length === 0) return null;
  return (
    <ul role="list" className="chips" aria-label="Only">
      {chips.map(([name, value]) => {
        const title = titles ? titles[name].toLowerCase() : name;
        return (
          <li key={name} className="tag">
            {title} {value}
            <button
              type="button"
              className="icon-button tight"
              aria-label={`Any ${title}`}
              onClick={() => onRemove(name)}
            >
              <X size={13} aria-hidden />
            </button>
          </li>
        );
      })}
    </ul>
  );
}
