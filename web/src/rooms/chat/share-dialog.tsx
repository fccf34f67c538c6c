/** Links to a conversation: made here, shown once, and ended. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { sendJson } from "../../api/client";
import { conversationPath, sharesQuery } from "../../api/organising";
import type { ConversationEntry, MadeShare, Share } from "../../api/types";
import { counted, formatMoment } from "../../format";
import { CopyButton } from "../../parts/copy";
import { FormModal } from "../../parts/form-modal";
import { notify } from "../../parts/toasts";
import { shownLast } from "./exporting";

const AUDIENCES = [
  ["server", "Whoever is signed in to this server and has the link"],
  ["anyone", "Anyone who has the link, signed in or not"],
] as const;

interface ShareDialogProps {
  conversation: ConversationEntry;
  onClose: () => void;
}

export function ShareDialog({ conversation: { id, title }, onClose }: ShareDialogProps) {
  const client = useQueryClient();
  const list = useQuery(sharesQuery);
  const [audience, setAudience] = useState<Share["audience"]>("server");
  const [made, setMade] = useState<MadeShare | null>(null);
  const make = useMutation({
    mutationFn: async () =>
      sendJson<MadeShare>("POST", `${conversationPath(id)}/shares`, {
        message_id: (await shownLast(client, id)) ?? null,
        audience,
      }),
    onSuccess: (share) => {
      setMade(share);
      void client.invalidateQueries({ queryKey: sharesQuery.queryKey });
    },
  });
  const links = list.data?.shares.filter((share) => share.conversation_id === id) ?? [];
  return (
    <FormModal
      title={`Share “${title}”`}
      does={links.length > 0 ? "Make another link" : "Make a link"}
      order={make}
      failed="No link was made"
      onClose={onClose}
    >
      <p className="soft">
        A link shows the versions that you see now, and nothing that comes later. Others read it and cannot
        answer. Documents that a reply cites open only to those who may see them; what the reply itself says
        of them is shown.
      </p>
      {list.data?.allows_anyone ? (
        <fieldset className="choices">
          <legend className="label">For whom</legend>
          {AUDIENCES.map(([value, text]) => (
            <label key={value}>
              <input
                type="radio"
                name="audience"
                checked={audience === value}
                onChange={() => setAudience(value)}
              />
              {text}
            </label>
          ))}
        </fieldset>
      ) : null}
      {made ? <MadeLink made={made} /> : null}
      {links.length > 0 ? (
        <ul role="list" className="links" aria-label="Links to this conversation">
          {links.map((share) => (
            <LinkLine key={share.share_id} share={share} />
          ))}
        </ul>
      ) : null}
    </FormModal>
  );
}

function MadeLink({ made }: { made: MadeShare }) {
  const address = `${location.origin}/shared/${made.token}`;
  return (
    <section aria-label="The new link" className="made-link">
      <p>The link is made. Copy it now: it is shown this once.</p>
      <div className="command">
        <code className="clip">{address}</code>
        <CopyButton text={address} label="Copy the link" />
      </div>
    </section>
  );
}

/** A link that was made, and the way to end it. */
export function LinkLine({ share, withTitle = false }: { share: Share; withTitle?: boolean }) {
  const end = useEndLink();
  const made = `${formatMoment(share.created_at)}, ${counted(share.num_turns, "message")}`;
  return (
    <li>
      <span>
        {withTitle ? <strong className="block clip">{share.title}</strong> : null}
        <span className="small soft">
          {made}, {share.audience === "anyone" ? "for anyone" : "for this server"}
        </span>
      </span>
      <button
        type="button"
        className="button"
        aria-label={`End the link to “${share.title}” of ${made}`}
        disabled={end.isPending}
        onClick={() => end.mutate(share)}
      >
        End it
      </button>
    </li>
  );
}

function useEndLink() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ share_id: id }: Share) => sendJson("DELETE", `/api/shares/${encodeURIComponent(id)}`),
    onSuccess: () => notify("The link leads nowhere from now on"),
    onError: (error) => notify(error.message),
    onSettled: () => client.invalidateQueries({ queryKey: sharesQuery.queryKey }),
  });
}
