/** A number that a person may leave open. */

export interface NumberField<Name extends string = string> {
  name: Name;
  label: string;
  hint: string;
  min: number;
  max: number;
  step: number;
  /** What the server does when the field is empty. */
  unset: string;
}

/** The number a person typed, or null when empty; undefined when it is not allowed. */
export function parseField(field: NumberField, text: string): number | null | undefined {
  if (text.trim() === "") return null;
  const value = Number(text);
  if (!Number.isFinite(value) || value < field.min || value > field.max) return undefined;
  return field.step >= 1 && !Number.isInteger(value) ? undefined : value;
}
