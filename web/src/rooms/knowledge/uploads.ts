/**
 * Files being sent. They live outside the page's components, so that sending goes on while the reader looks
 * elsewhere. Two go at a time; one that the server has no room for waits and is sent again. What became of a file that
 * was sent, the server knows.
 */
import type { QueryClient } from "@tanstack/react-query";
import { errorFrom, told } from "../../api/client";
import { collectionPath, uploadsQuery } from "../../api/knowledge";
import type { UploadEntry } from "../../api/types";
import { counted } from "../../format";

export interface Sending {
  id: number;
  /** Name or id of the collection. */
  collection: string;
  name: string;
  size: number;
  /** Bytes that have left. */
  sent: number;
  phase: "queued" | "sending" | "failed";
  problem: string;
}

export interface NamedFile {
  file: File;
  /** Its name, or its path in the folder it came with. */
  name: string;
}

const AT_ONCE = 2;
const PATIENCE_MS = 5000;

class Uploads {
  #sendings: readonly Sending[] = [];
  #files = new Map<number, File>();
  #requests = new Map<number, XMLHttpRequest>();
  #listeners = new Set<() => void>();
  #sentIds = new Set<string>();
  #lastId = 0;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly all = (): readonly Sending[] => this.#sendings;

  /** Whether an upload was sent since the page was loaded: what became of it is worth telling. */
  isOurs(uploadId: string): boolean {
    return this.#sentIds.has(uploadId);
  }

  forget(uploadId: string): void {
    this.#sentIds.delete(uploadId);
    this.#set([...this.#sendings]);
  }

  add(client: QueryClient, collection: string, files: readonly NamedFile[]): void {
    const added = files.map(({ file, name }) => {
      this.#lastId += 1;
      this.#files.set(this.#lastId, file);
      const { size } = file;
      return { id: this.#lastId, collection, name, size, sent: 0, phase: "queued" as const, problem: "" };
    });
    this.#set([...this.#sendings, ...added]);
    this.#next(client);
  }

  retry(client: QueryClient, id: number): void {
    this.#change(id, { phase: "queued", problem: "", sent: 0 });
    this.#next(client);
  }

  cancel(id: number): void {
    this.#requests.get(id)?.abort();
    this.#drop(id);
  }

  #next(client: QueryClient): void {
    const free = AT_ONCE - this.#sendings.filter(({ phase }) => phase === "sending").length;
    for (const sending of this.#sendings.filter(({ phase }) => phase === "queued").slice(0, free)) {
      this.#change(sending.id, { phase: "sending" });
      this.#send(client, sending);
    }
  }

  /** `fetch` does not say how much of a body has left; this does. */
  #send(client: QueryClient, { id, collection, name }: Sending): void {
    const request = new XMLHttpRequest();
    this.#requests.set(id, request);
    request.open("POST", `${collectionPath(collection)}/uploads?name=${encodeURIComponent(name)}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = ({ loaded }) => this.#change(id, { sent: loaded });
    request.onerror = () => this.#fail(id, "The connection broke off.");
    request.onload = () => {
      if (request.status === 202) this.#arrived(client, id, collection, request.response as UploadEntry);
      else if (request.status === 429) {
        // It stays "sending" while it waits, so that the others wait with it.
        setTimeout(() => this.retry(client, id), PATIENCE_MS);
      } else this.#fail(id, told(errorFrom(request.status, request.response)));
    };
    request.onloadend = () => {
      this.#requests.delete(id);
      this.#next(client);
    };
    request.send(this.#files.get(id));
  }

  #arrived(client: QueryClient, id: number, collection: string, upload: UploadEntry): void {
    this.#sentIds.add(upload.upload_id);
    client.setQueryData(uploadsQuery(collection).queryKey, (old) => [...(old ?? []), upload]);
    this.#drop(id);
  }

  #fail(id: number, problem: string): void {
    this.#change(id, { phase: "failed", problem });
  }

  #drop(id: number): void {
    this.#files.delete(id);
    this.#set(this.#sendings.filter((sending) => sending.id !== id));
  }

  #change(id: number, change: Partial<Sending>): void {
    this.#set(this.#sendings.map((sending) => (sending.id === id ? { ...sending, ...change } : sending)));
  }

  #set(sendings: readonly Sending[]): void {
    this.#sendings = sendings;
    for (const listener of this.#listeners) listener();
  }
}

export const uploads = new Uploads();

const STATES: Record<string, string> = {
  waiting: "waits to be read",
  reading: "is being read",
  indexing: "is being indexed",
};

/** How far a file is that was sent, as a sentence goes on after its name. */
export function progressOf({ state, message, status, num_skipped_pages: skipped }: UploadEntry): string {
  if (state === "failed") return message;
  if (state !== "done") return STATES[state] ?? state;
  if (status === "unreadable") return "is in, but nothing of it could be read";
  return skipped > 0 ? `is in; ${counted(skipped, "page")} not indexed` : "is in";
}

/** What was dropped, with folders opened: every file with its path in them. Hidden ones are left out. */
export async function droppedFiles(items: DataTransferItemList): Promise<NamedFile[]> {
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry: FileSystemEntry): Promise<NamedFile[]> {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    );
    return [{ file, name: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: NamedFile[] = [];
  for (;;) {
    // A folder is read in portions; an empty one is the end.
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (part.length === 0) return found;
    found.push(...(await Promise.all(part.map(filesIn))).flat());
  }
}
