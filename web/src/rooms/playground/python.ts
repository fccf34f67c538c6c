/** JSON values as Python says them. */

const WIDTH = 92;

/** A value; what does not fit on one line has an item a line. */
export function python(value: unknown, indent = "", used = 0): string {
  const line = flat(value);
  if (indent.length + used + line.length <= WIDTH || typeof value !== "object" || value === null) return line;
  const inner = `${indent}    `;
  const items = Array.isArray(value)
    ? value.map((item) => `${inner}${python(item, inner)},\n`)
    : Object.entries(value).map(([key, item]) => {
        const name = `${JSON.stringify(key)}: `;
        return `${inner}${name}${python(item, inner, name.length)},\n`;
      });
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${items.join("")}${indent}${close}`;
}

function flat(value: unknown): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  // What JSON escapes in a text, Python escapes alike.
  if (typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(flat).join(", ")}]`;
  const items = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${flat(item)}`);
  return `{${items.join(", ")}}`;
}

/** A call with one argument a line; of `extra` those that a client has no argument for. */
export function pythonCall(name: string, values: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(values).map(
    ([key, value]) => `    ${key}=${python(value, "    ", key.length + 1)},\n`,
  );
  return `${name}(\n${lines.join("")})`;
}
