/**
 * One way to ask the server: JSON in, JSON out, every failure an `ApiError` with the server's message and remedy.
 * A 401 is announced to whoever listens (the router, which then shows the sign-in page).
 */

export class ApiError extends Error {
  readonly status: number;
  readonly remedy: string;
  readonly code: string;

  constructor(status: number, message: string, remedy = "", code = "") {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.remedy = remedy;
    this.code = code;
  }
}

/** A failure in one line, the remedy last, for notices. */
export function told(error: unknown): string {
  if (error instanceof ApiError) return [error.message, error.remedy].filter(Boolean).join(" ");
  return error instanceof Error ? error.message : String(error);
}

let announceSignedOut: () => void = () => {};

export function onSignedOut(listener: () => void): void {
  announceSignedOut = listener;
}

/** The server's error body, in any of its shapes, as an `ApiError`. */
export function errorFrom(status: number, body: unknown, retryAfter: string | null = null): ApiError {
  const record = asRecord(body);
  const error = asRecord(record?.error) ?? record;
  const wait = retryAfter === null ? "" : `Try again in ${retryAfter} s.`;
  const message =
    asText(error?.message) ?? validationText(record?.detail) ?? `The server answered ${status}.`;
  const remedy = asText(error?.remedy);
  return new ApiError(
    status,
    sentence(withoutRemedy(message, remedy)),
    sentence(remedy ?? wait),
    asText(error?.code) ?? "",
  );
}

/** The server's message ends with the remedy, for clients that show nothing else; here it stands apart. */
function withoutRemedy(message: string, remedy = ""): string {
  return remedy !== "" && message.endsWith(remedy)
    ? message.slice(0, -remedy.length).replace(/[;\s]+$/, "")
    : message;
}

/** `the queue is full` as `The queue is full.` */
function sentence(text: string): string {
  const end = text === "" || /[.!?:]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}

/** FastAPI's `detail`: a sentence, or a list of field problems. */
function validationText(detail: unknown): string | undefined {
  if (!Array.isArray(detail)) return asText(detail);
  return detail
    .map((item) => {
      const problem = asRecord(item);
      const where = Array.isArray(problem?.loc) ? problem.loc.slice(1).join(".") : "";
      return `${where}: ${asText(problem?.msg) ?? "not allowed"}`;
    })
    .join("; ");
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
}

function asText(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** A response, or an `ApiError`; the body is not read yet. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(
      0,
      "The server cannot be reached.",
      "Check that `cairn up` is still running, then try again.",
    );
  }
  if (response.ok) return response;
  const body: unknown = await response.json().catch(() => null);
  // Who asks for the session deals with its absence; a wrong key at the sign-in page is no lost session.
  if (response.status === 401 && path !== "/api/session" && path !== "/api/sign-in") announceSignedOut();
  throw errorFrom(response.status, body, response.headers.get("retry-after"));
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await send(path, signal ? { signal } : {});
  return (await response.json()) as T;
}

export async function sendJson<T = unknown>(
  method: "POST" | "PUT" | "PATCH" | "DELETE",
  path: string,
  body?: unknown,
  init: RequestInit = {},
): Promise<T> {
  const payload =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const response = await send(path, { method, ...payload, ...init });
  const text = await response.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}
