/** The routes' file as text, with line numbers and what is wrong where. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { ApiError, sendJson, told } from "../../api/client";
import { routesQuery } from "../../api/routes";
import type { Routes } from "../../api/types";
import { notify } from "../../parts/toasts";
import { type Problem, problemsIn } from "./problems";

/** What stands faint in a file without a line. */
const EXAMPLE = `[routes.assistant]
targets = [{ model = "a-model", weight = 3 }, { model = "another" }]`;

export function Editor({ routes, mayWrite }: { routes: Routes; mayWrite: boolean }) {
  // What is being written stays as it is while the file is asked for again.
  const [draft, setDraft] = useState<{ text: string; digest: string } | null>(null);
  const [refused, setRefused] = useState<Problem[]>([]);
  const client = useQueryClient();
  const box = useRef<HTMLTextAreaElement>(null);
  const numbers = useRef<HTMLDivElement>(null);
  const text = draft?.text ?? routes.text;
  const problems = draft ? refused : routes.problems;
  const wrong = new Set(problems.map((problem) => problem.line));

  const save = useMutation({
    mutationFn: (body: { text: string; digest: string }) => sendJson<Routes>("PUT", "/api/routes", body),
    onSuccess: (saved) => {
      client.setQueryData(routesQuery.queryKey, saved);
      setDraft(null);
      setRefused([]);
      notify("The routes are in force");
    },
    onError: (error) => {
      const found = error instanceof ApiError ? problemsIn(error.message) : [];
      setRefused(found);
      if (found.length === 0) notify(told(error));
    },
  });

  const goTo = (line: number) => {
    const lines = text.split("\n");
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    box.current?.focus();
    box.current?.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  };

  return (
    <div className="routes-editor">
      <div className="routes-text">
        <div className="routes-numbers" ref={numbers} aria-hidden>
          {text.split("\n").map((_, place) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: a line is its number
            <span key={place} data-wrong={wrong.has(place + 1) || undefined}>
              {place + 1}
            </span>
          ))}
        </div>
        <textarea
          ref={box}
          aria-label="Text of routes.toml"
          aria-invalid={problems.length > 0}
          aria-describedby={problems.length > 0 ? "routes-problems" : undefined}
          placeholder={EXAMPLE}
          spellCheck={false}
          wrap="off"
          readOnly={!mayWrite}
          rows={Math.min(28, Math.max(8, text.split("\n").length + 1))}
          value={text}
          onChange={(event) => setDraft({ text: event.target.value, digest: draft?.digest ?? routes.digest })}
          onScroll={(event) => {
            if (numbers.current) numbers.current.scrollTop = event.currentTarget.scrollTop;
          }}
        />
      </div>
      {problems.length > 0 ? (
        <ul id="routes-problems" className="routes-problems" role="alert">
          {problems.map(({ line, message }) => (
            <li key={`${line} ${message}`}>
              <button type="button" className="routes-line" onClick={() => goTo(line)}>
                Line {line}
              </button>
              <span>{message}</span>
            </li>
          ))}
        </ul>
      ) : null}
      {mayWrite ? (
        <div className="routes-actions">
          <button
            type="button"
            className="button primary"
            disabled={!draft || save.isPending}
            onClick={() => draft && save.mutate(draft)}
          >
            Put in force
          </button>
          <button
            type="button"
            className="button"
            disabled={!draft || save.isPending}
            onClick={() => {
              setDraft(null);
              setRefused([]);
            }}
          >
            Discard changes
          </button>
        </div>
      ) : (
        <p className="small soft">Only administrators may change the file: it says where keys are sent.</p>
      )}
    </div>
  );
}
