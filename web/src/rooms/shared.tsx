/** A conversation that somebody shares: to read, by whoever may, as it was when the link was made. */
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { ApiError } from "../api/client";
import { sharedQuery } from "../api/organising";
import type { SharedConversation, SharedTurn } from "../api/types";
import { formatMoment } from "../format";
import { Mark } from "../look/mark";
import { Markdown } from "../parts/markdown";
import { Problem, Skeleton } from "../parts/problem";
import { useTitle } from "../parts/title";
import { Sourced } from "./chat/sourced";

import "./chat/chat.css";

export function SharedRoom() {
  const { token } = useParams({ from: "/shared/$token" });
  const shared = useQuery(sharedQuery(token));
  useTitle(shared.data?.title ?? "Shared conversation");
  const isSignedIn = shared.data?.isSignedIn ?? false;
  return (
    <div className="shared">
      <header className="shared-head">
        <Link to="/chat" className="shared-mark" aria-label="Cairn, to the chat">
          <Mark size={26} />
        </Link>
        <span className="small soft">A shared conversation, to read</span>
        {shared.isPending || isSignedIn ? null : (
          <Link to="/welcome" search={{ next: `/shared/${token}` }} className="button">
            Sign in
          </Link>
        )}
      </header>
      <main className="thread" id="main">
        {shared.isPending ? <Skeleton lines={8} label="Loading the conversation" /> : null}
        {shared.isError ? <Refused error={shared.error} /> : null}
        {shared.data ? <Read shared={shared.data} /> : null}
      </main>
    </div>
  );
}

function Refused({ error }: { error: unknown }) {
  const isNowhere = error instanceof ApiError && error.status === 404;
  return (
    <>
      <h1>Nothing to read here</h1>
      <Problem error={error} what="The conversation is not shown" />
      {isNowhere ? <p className="soft">Some links are for those who are signed in to this server.</p> : null}
    </>
  );
}

function Read({ shared }: { shared: SharedConversation }) {
  const { title, owner, model, created_at: at, turns } = shared;
  const facts = [owner ? `shared by ${owner}` : "", formatMoment(at), model].filter(Boolean);
  return (
    <>
      <div>
        <h1>{title}</h1>
        <p className="small soft">{facts.join(" · ")}</p>
      </div>
      {turns.map((turn, place) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a snapshot never changes
        <SharedTurnView key={place} turn={turn} />
      ))}
    </>
  );
}

function SharedTurnView({ turn }: { turn: SharedTurn }) {
  if (turn.role === "user") {
    return (
      <article className="turn user" aria-label="Question">
        <p className="said">{turn.content}</p>
      </article>
    );
  }
  return (
    <article className="turn assistant" aria-label="Reply">
      {turn.annotations.length > 0 || turn.sentences.length > 0 ? (
        <Sourced turn={turn} />
      ) : (
        <Markdown text={turn.content} />
      )}
    </article>
  );
}
