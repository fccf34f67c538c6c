/** Numbers, times and digests as people read them. Times from the server are seconds since 1970. */

const DAY_MS = 86_400_000;

export function formatSize(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A count with a suffix: 950, 12.3k, 4.1M. */
export function formatCount(count: number): string {
  if (count < 1000) return String(Math.round(count));
  const units = ["k", "M", "G", "T"];
  let value = count;
  let unit = -1;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 99.95 ? Math.round(value) : +value.toFixed(1)}${units[unit]}`;
}

/** A count of things: `1 page`, `1,200 pages`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en-GB")} ${count === 1 ? one : many}`;
}

export function formatDuration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** `sha256:0f3a…` as its first twelve hex digits. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, "").slice(0, 12);
}

interface Nameable {
  digest: string;
  names: readonly string[];
  kind?: string;
  metadata?: Readonly<Record<string, unknown>>;
}

/**
 * What to call an artifact: its first name, without a `:latest` that says nothing; else what its metadata calls it
 * (a data set's name, a recipe and what it made); else its short digest.
 */
export function artifactName({ digest, names, kind = "", metadata = {} }: Nameable): string {
  const { name, recipe, stage } = metadata;
  if (names[0] !== undefined) return names[0].replace(/:latest$/, "");
  if (typeof name === "string" && name !== "") return name.split("/").at(-1) || name;
  if (typeof recipe === "string") return `${recipe} ${typeof stage === "string" ? stage : kind}`.trim();
  return shortDigest(digest);
}

/** Whole local days between a time and now; 0 is today. */
export function daysAgo(seconds: number, now: Date = new Date()): number {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const time = seconds * 1000;
  return time >= midnight ? 0 : Math.ceil((midnight - time) / DAY_MS);
}

/** The heading a conversation stands under. */
export function dayLabel(seconds: number, now: Date = new Date()): string {
  const days = daysAgo(seconds, now);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days <= 7) return "Last 7 days";
  const date = new Date(seconds * 1000);
  const month = date.toLocaleDateString("en-GB", { month: "long" });
  return date.getFullYear() === now.getFullYear() ? month : `${month} ${date.getFullYear()}`;
}

/** A time in a list: the hour today, else the date. */
export function formatWhen(seconds: number, now: Date = new Date()): string {
  const date = new Date(seconds * 1000);
  const days = daysAgo(seconds, now);
  const clock = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (days === 0) return clock;
  if (days === 1) return `yesterday ${clock}`;
  const sameYear = date.getFullYear() === now.getFullYear();
  const day = date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return sameYear ? day : `${day} ${date.getFullYear()}`;
}

/** A time in full, for titles and details. */
export function formatMoment(seconds: number): string {
  return new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

/** The title of a conversation: its first line, cut at a word. */
export function titleFrom(text: string, limit = 60): string {
  const line = text.trim().split("\n", 1)[0]?.replace(/\s+/g, " ") ?? "";
  if (line.length <= limit) return line || "New chat";
  const cut = line.slice(0, limit);
  const space = cut.lastIndexOf(" ");
  return `${space > limit / 2 ? cut.slice(0, space) : cut}…`;
}

/** Everything the words of a filter occur in. */
export function matches(words: string, ...texts: readonly string[]): boolean {
  const text = texts.join(" ").toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
