/** Details of an entry in one line: `user ada, models 2 values`; digests cut short. */
import { counted, shortDigest } from "../../format";

export function told(details: Readonly<Record<string, unknown>>): string {
  return Object.entries(details)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${brief(value)}`)
    .join(", ");
}

export function brief(value: unknown): string {
  if (typeof value === "string") return value.startsWith("sha256:") ? shortDigest(value) : value;
  if (!Array.isArray(value)) return JSON.stringify(value);
  return value.length <= 3 && value.every((each) => typeof each === "string")
    ? value.map(brief).join(" ") || "none"
    : counted(value.length, "value");
}
