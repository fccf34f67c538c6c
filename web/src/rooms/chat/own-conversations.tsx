/** One's conversations as a whole, for the settings: as files out and in, and the links to them. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Download, Upload } from "lucide-react";
import { useRef } from "react";
import { ApiError, sendJson } from "../../api/client";
import { refreshConversations, sharesQuery } from "../../api/organising";
import type { ConversationFile, Imported } from "../../api/types";
import { counted } from "../../format";
import { Problem } from "../../parts/problem";
import { QueryState } from "../../parts/query-state";
import { notify } from "../../parts/toasts";
import { download } from "./exporting";
import { portions } from "./portions";
import { LinkLine } from "./share-dialog";

const EXPORT = "/api/conversations/export";

export function OwnConversations() {
  const shares = useQuery(sharesQuery);
  const input = useRef<HTMLInputElement>(null);
  const client = useQueryClient();
  const bring = useMutation({
    mutationFn: importFile,
    onSuccess: (count) => notify(`${counted(count, "conversation")} came in`),
    onSettled: () => refreshConversations(client),
  });
  return (
    <>
      <section className="section" aria-labelledby="own-conversations">
        <h2 id="own-conversations">Your conversations</h2>
        <div className="settings-row">
          <button type="button" className="button" onClick={() => download(EXPORT, { format: "json" })}>
            <Download size={15} aria-hidden /> Export all as JSON
          </button>
          <button type="button" className="button" onClick={() => download(EXPORT, { format: "markdown" })}>
            <Download size={15} aria-hidden /> Export all as Markdown
          </button>
          <button
            type="button"
            className="button"
            disabled={bring.isPending}
            onClick={() => input.current?.click()}
          >
            <Upload size={15} aria-hidden /> {bring.isPending ? "Importing…" : "Import JSON"}
          </button>
          <input
            ref={input}
            type="file"
            accept=".json,application/json"
            hidden
            aria-label="File of conversations"
            onChange={(event) => {
              const file = event.target.files?.[0];
              event.target.value = "";
              if (file) bring.mutate(file);
            }}
          />
        </div>
        {bring.isError ? <Problem error={bring.error} what="Not imported" /> : null}
      </section>
      <section className="section" aria-labelledby="own-links">
        <h2 id="own-links">Shared links</h2>
        <QueryState query={shares} what="The links" lines={2} count={shares.data?.shares.length ?? 0}>
          <p>None. The menu of a conversation has “Share…”.</p>
        </QueryState>
        <ul role="list" className="links">
          {shares.data?.shares.map((share) => (
            <LinkLine key={share.share_id} share={share} withTitle />
          ))}
        </ul>
      </section>
    </>
  );
}

/** How many conversations came in; what came before a failure stays. */
async function importFile(file: File): Promise<number> {
  const found = await file
    .text()
    .then(JSON.parse)
    .catch(() => null);
  const conversations: unknown = found?.conversations;
  if (found?.format !== "cairn.conversations" || !Array.isArray(conversations)) {
    throw new ApiError(
      0,
      `${file.name} is no export of conversations.`,
      "Choose the JSON file that an export gave.",
    );
  }
  let count = 0;
  for (const some of portions(conversations as ConversationFile["conversations"])) {
    const body = { format: found.format, version: found.version, conversations: some };
    const { conversation_ids: ids } = await sendJson<Imported>("POST", "/api/conversations/import", body);
    count += ids.length;
  }
  return count;
}
