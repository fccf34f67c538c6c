/** Sign-in: with a password, with a key, or with the one-time link that `cairn up` prints. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useRouter, useSearch } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { sendJson } from "../api/client";
import { signInWaysQuery } from "../api/identity";
import { sessionQuery } from "../api/queries";
import type { Session } from "../api/types";
import { Mark } from "../look/mark";
import { Problem } from "../parts/problem";
import { useTitle } from "../parts/title";

const WAYS = [
  ["password", "Password"],
  ["key", "Key"],
] as const;

/** Only an address of this page: `//elsewhere` and `https:` would lead away from it. */
function safeNext(next: string | undefined): string {
  return next?.startsWith("/") && !next.startsWith("//") && !next.startsWith("/\\") ? next : "/chat";
}

export function Welcome() {
  useTitle("Sign in");
  const { next, link } = useSearch({ from: "/welcome" });
  const router = useRouter();
  const client = useQueryClient();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [key, setKey] = useState("");
  const [way, setWay] = useState<"password" | "key">("password");
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const isPassword = way === "password";
  const signOn = useQuery(signInWaysQuery).data?.single_sign_on;

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const session = isPassword
        ? await sendJson<Session>("POST", "/api/sign-in/password", { name: name.trim(), password })
        : await sendJson<Session>("POST", "/api/sign-in", { key: key.trim() });
      client.setQueryData(sessionQuery.queryKey, session);
      router.history.push(safeNext(next));
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };

  return (
    <main className="welcome">
      <div className="welcome-box">
        <header>
          <Mark size={44} />
          <div>
            <h1>Cairn</h1>
            <p className="soft">Your own models, on your own machine.</p>
          </div>
        </header>
        {link === "expired" ? (
          <p className="problem" role="alert">
            <span>
              That sign-in link has been used or is too old. <code>cairn key link</code> makes another.
            </span>
          </p>
        ) : null}
        {link === "failed" ? (
          <p className="problem" role="alert">
            The sign-in at the identity provider did not hold. Try again, or ask an administrator: the
            server’s log says why.
          </p>
        ) : null}
        {signOn ? (
          <a className="button primary" href="/sign-in/oidc">
            {signOn}
          </a>
        ) : null}
        <form onSubmit={(event) => void submit(event)}>
          <fieldset className="segments">
            <legend className="hidden-visually">Sign in with</legend>
            {WAYS.map(([option, text]) => (
              <label key={option}>
                <input
                  className="hidden-visually"
                  type="radio"
                  name="way"
                  checked={way === option}
                  onChange={() => setWay(option)}
                />
                {text}
              </label>
            ))}
          </fieldset>
          {isPassword ? (
            <>
              <div>
                <label className="label" htmlFor="name">
                  Name or e-mail address
                </label>
                <input
                  id="name"
                  className="field"
                  autoComplete="username"
                  autoCapitalize="none"
                  spellCheck={false}
                  required
                  value={name}
                  onChange={(event) => setName(event.target.value)}
                />
              </div>
              <div>
                <label className="label" htmlFor="password">
                  Password
                </label>
                <input
                  id="password"
                  className="field"
                  type="password"
                  autoComplete="current-password"
                  required
                  value={password}
                  onChange={(event) => setPassword(event.target.value)}
                />
              </div>
            </>
          ) : (
            <div>
              <label className="label" htmlFor="key">
                Key
              </label>
              <input
                id="key"
                className="field mono"
                type="password"
                autoComplete="off"
                placeholder="Paste your key"
                spellCheck={false}
                required
                value={key}
                onChange={(event) => setKey(event.target.value)}
              />
            </div>
          )}
          <button
            type="submit"
            className={signOn ? "button" : "button primary"}
            disabled={isBusy || (isPassword ? name.trim() === "" || password === "" : key.trim() === "")}
          >
            Sign in
          </button>
        </form>
        {error ? <Problem error={error} /> : null}
        <p className="small soft">
          Neither at hand? <code>cairn up</code> prints a sign-in link when it starts, and{" "}
          <code>cairn key link</code> makes another. A link works once and for a few minutes; open it in this
          browser and you are in.
        </p>
      </div>
    </main>
  );
}
