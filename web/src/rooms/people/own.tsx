/** One's own password and sessions. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { sendJson } from "../../api/client";
import { sessionsQuery } from "../../api/identity";
import type { OpenSession } from "../../api/types";
import { formatMoment, formatWhen } from "../../format";
import { Problem } from "../../parts/problem";
import { QueryState } from "../../parts/query-state";
import { Sure } from "../../parts/sure";
import { TextField } from "../../parts/text-field";
import { notify } from "../../parts/toasts";

import { signOut } from "../sign-out";

import "./people.css";

export function OwnPassword() {
  const [current, setCurrent] = useState("");
  const [chosen, setChosen] = useState("");
  const client = useQueryClient();
  const change = useMutation({
    mutationFn: () => sendJson("PUT", "/api/account/password", { current, new: chosen }),
    onSuccess: () => {
      notify("Your password is changed, and your other sessions have ended");
      setCurrent("");
      setChosen("");
      void client.invalidateQueries({ queryKey: sessionsQuery.queryKey });
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    change.mutate();
  };
  return (
    <section className="section" aria-labelledby="password">
      <h2 id="password">Password</h2>
      <form className="own-password" onSubmit={submit}>
        <TextField
          label="Current password, if there is one"
          type="password"
          autoComplete="current-password"
          value={current}
          onChange={setCurrent}
        />
        <TextField
          label="New password, ten characters or more"
          type="password"
          autoComplete="new-password"
          minLength={10}
          value={chosen}
          onChange={setChosen}
        />
        <button type="submit" className="button" disabled={chosen === "" || change.isPending}>
          Change it
        </button>
      </form>
      {change.isError ? <Problem error={change.error} what="Not changed" /> : null}
    </section>
  );
}

export function OwnSessions() {
  const list = useQuery(sessionsQuery);
  const [isAsked, setAsked] = useState(false);
  const client = useQueryClient();
  const navigate = useNavigate();
  const end = useMutation({
    mutationFn: () => sendJson("DELETE", "/api/account/sessions"),
    onSuccess: () => void signOut(client, navigate),
  });
  const sessions = list.data ?? [];
  return (
    <section className="section" aria-labelledby="sessions">
      <div className="section-head">
        <h2 id="sessions">Where you are signed in</h2>
        <button type="button" className="button" aria-haspopup="dialog" onClick={() => setAsked(true)}>
          Sign out everywhere
        </button>
      </div>
      <QueryState query={list} what="Your sessions" lines={2} count={sessions.length}>
        <p>Nowhere: you came with a key.</p>
      </QueryState>
      <ul role="list" className="group-list">
        {sessions.map((each) => (
          <SessionLine key={each.session_id} session={each} />
        ))}
      </ul>
      {isAsked ? (
        <Sure title="Sign out everywhere" does="Sign out" order={end} onClose={() => setAsked(false)}>
          Every browser in which you are signed in is signed out, this one too. Keys stay good.
        </Sure>
      ) : null}
    </section>
  );
}

function SessionLine({ session }: { session: OpenSession }) {
  const client = useQueryClient();
  const end = useMutation({
    mutationFn: () => sendJson("DELETE", `/api/account/sessions/${session.session_id}`),
    onSuccess: () => notify("That session has ended"),
    onSettled: () => void client.invalidateQueries({ queryKey: sessionsQuery.queryKey }),
  });
  return (
    <li className="group-line">
      <span className="group-members">
        {browserName(session.agent)} <span className="small soft">{session.address}</span>
        <span className="small soft block" title={formatMoment(session.last_seen_at)}>
          last used {formatWhen(session.last_seen_at)}, since {formatWhen(session.created_at)}
        </span>
      </span>
      {session.is_current ? (
        <span className="tag accent">this one</span>
      ) : (
        <button type="button" className="button" disabled={end.isPending} onClick={() => end.mutate()}>
          End it
        </button>
      )}
    </li>
  );
}

/** `Mozilla/5.0 (X11; Linux x86_64) … Chrome/140.0.0.0 …` as `Chrome on Linux`. */
function browserName(agent: string): string {
  const browsers = [
    ["Edg/", "Edge"],
    ["OPR/", "Opera"],
    ["Firefox/", "Firefox"],
    ["Chrome/", "Chrome"],
    ["Safari/", "Safari"],
  ] as const;
  const systems = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"];
  const browser = browsers.find(([mark]) => agent.includes(mark))?.[1];
  const system = systems.find((name) => agent.includes(name));
  if (browser === undefined) return agent.split(" ", 1)[0] || "a program";
  return system === undefined ? browser : `${browser} on ${system}`;
}
