/**
 * What the browser remembers between visits: small values under `cairn.*` in localStorage. Text is kept as it is,
 * everything else as JSON. Storage that is full or switched off is the same as an empty one.
 */

export function recall<T>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(`cairn.${key}`);
    if (text === null) return fallback;
    return (typeof fallback === "string" ? text : JSON.parse(text)) as T;
  } catch {
    return fallback;
  }
}

export function remember(key: string, value: unknown): void {
  try {
    localStorage.setItem(`cairn.${key}`, typeof value === "string" ? value : JSON.stringify(value));
  } catch {
    // Full or switched off: the value lasts as long as the page does.
  }
}

export function forget(key: string): void {
  try {
    localStorage.removeItem(`cairn.${key}`);
  } catch {
    // As above.
  }
}
