/** The Playground: one request with all its settings, tried, taken apart, compared, and taken along as code. */
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Code, Columns2, Play, RotateCcw, Square } from "lucide-react";
import { useEffect, useState } from "react";
import { modelsQuery } from "../../api/queries";
import { Choice } from "../../parts/filter";
import { Problem } from "../../parts/problem";
import { useTitle } from "../../parts/title";
import { notify } from "../../parts/toasts";
import { chooseModel } from "../chat/sampling";
import { AnswerView } from "./answer-view";
import { answers, type Choice as Reply, type Side } from "./answers";
import { CodeDialog } from "./code-dialog";
import { emptyDraft, useAnswer, useDraft, useIsBusy } from "./draft";
import { Segments } from "./fields";
import { Messages } from "./messages";
import "./playground.css";
import { Preferring } from "./preferring";
import { bodyOf, DEFAULT_SETTINGS, type Made, type Settings } from "./request";
import { SettingsPanel } from "./settings-panel";

const NAMES = ["A", "B"] as const;

export function PlaygroundRoom() {
  useTitle("Playground");
  const { model: wanted } = useSearch({ from: "/house/playground" });
  const navigate = useNavigate();
  const models = useQuery(modelsQuery);
  const [draft, setDraft] = useDraft();
  const [shownSide, setShownSide] = useState("0");
  const [isCodeOpen, setCodeOpen] = useState(false);
  // A draft taken back, or begun anew, has other numbers in fields that keep their own text.
  const [round, setRound] = useState(0);
  const isBusy = useIsBusy();

  // A link from a model chooses it; from then on the choice counts.
  useEffect(() => {
    if (!wanted) return;
    setDraft({
      ...draft,
      sides: draft.sides.map((side, at) => (at === 0 ? { ...side, model: wanted } : side)),
    });
    void navigate({ to: ".", search: {}, replace: true });
  }, [wanted, draft, setDraft, navigate]);

  const names = models.data?.map(({ id }) => id) ?? [];
  const sides = draft.sides.map((side) => ({ ...side, model: chooseModel(undefined, side.model, names) }));
  const made = sides.map((side) => bodyOf(draft.messages, side));
  const canRun = made.every(({ problems }) => Object.keys(problems).length === 0);
  const shown = sides.length > 1 && shownSide === "1" ? 1 : 0;

  const change = (place: number, settings: Settings) =>
    setDraft({ ...draft, sides: draft.sides.map((side, at) => (at === place ? settings : side)) });
  const run = () => {
    if (canRun) answers.run(made.map(({ body }) => body));
  };
  const startOver = () => {
    const before = draft;
    answers.clear();
    setDraft(emptyDraft(draft));
    setRound(round + 1);
    notify("The Playground is empty", () => {
      setDraft(before);
      setRound(round + 2);
    });
  };
  const take = (reply: Reply) =>
    setDraft({
      ...draft,
      messages: [
        ...draft.messages,
        { role: "assistant", content: reply.text, tool_calls: reply.calls },
        ...(reply.calls.length > 0
          ? reply.calls.map(({ id }) => ({ role: "tool" as const, content: "", tool_call_id: id }))
          : [{ role: "user" as const, content: "" }]),
      ],
    });

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || isBusy) return;
      event.preventDefault();
      if (canRun) answers.run(made.map(({ body }) => body));
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });

  return (
    <div className="play">
      <header className="play-head">
        <h1>Playground</h1>
        <div className="play-tools">
          <button
            type="button"
            className="icon-button"
            aria-label="Start over"
            title="Start over"
            onClick={startOver}
          >
            <RotateCcw size={16} aria-hidden />
          </button>
          <button
            type="button"
            className="button"
            aria-pressed={sides.length > 1}
            onClick={() => {
              setShownSide("0");
              const [first = DEFAULT_SETTINGS] = draft.sides;
              setDraft({ ...draft, sides: sides.length > 1 ? [first] : [first, first] });
            }}
          >
            <Columns2 size={15} aria-hidden />
            Compare
          </button>
          <button type="button" className="button" onClick={() => setCodeOpen(true)}>
            <Code size={15} aria-hidden />
            Code
          </button>
          {isBusy ? (
            <button type="button" className="button primary" onClick={() => answers.stop()}>
              <Square size={13} fill="currentColor" aria-hidden />
              Stop
            </button>
          ) : (
            <button
              type="button"
              className="button primary"
              title="Run (Ctrl-Enter)"
              disabled={!canRun}
              onClick={run}
            >
              <Play size={15} aria-hidden />
              Run
            </button>
          )}
        </div>
      </header>
      <div className="play-main">
        {models.isError ? (
          <Problem error={models.error} what="No models" onRetry={() => void models.refetch()} />
        ) : null}
        <Messages messages={draft.messages} onChange={(messages) => setDraft({ ...draft, messages })} />
        <div className="play-answers" data-sides={sides.length}>
          {sides.map((side, place) => (
            <AnswerSide
              // biome-ignore lint/suspicious/noArrayIndexKey: the side is its place
              key={place}
              place={place as Side}
              isAlone={sides.length === 1}
              settings={side}
              made={made[place]}
              names={names}
              onModel={(model) => change(place, { ...side, model })}
              onRetry={run}
              onTake={take}
            />
          ))}
        </div>
        {sides.length > 1 ? <Preferring /> : null}
      </div>
      <aside className="play-side" aria-label="Settings">
        {sides.length > 1 ? (
          <Segments
            label="Settings of"
            name="settings-side"
            value={shownSide}
            onChange={setShownSide}
            options={[
              ["0", "Settings of A"],
              ["1", "of B"],
            ]}
          />
        ) : null}
        <SettingsPanel
          key={`${shown} ${round}`}
          settings={sides[shown] ?? DEFAULT_SETTINGS}
          problems={made[shown]?.problems ?? {}}
          onChange={(settings) => change(shown, settings)}
        />
      </aside>
      {isCodeOpen ? <CodeDialog made={made} onClose={() => setCodeOpen(false)} /> : null}
    </div>
  );
}

interface AnswerSideProps {
  place: Side;
  isAlone: boolean;
  settings: Settings;
  made: Made | undefined;
  names: readonly string[];
  onModel: (model: string) => void;
  onRetry: () => void;
  onTake: (reply: Reply) => void;
}

function AnswerSide({ place, isAlone, settings, made, names, onModel, onRetry, onTake }: AnswerSideProps) {
  const answer = useAnswer(place);
  const name = isAlone ? "the answer" : `answer ${NAMES[place]}`;
  const wrong = Object.values(made?.problems ?? {});
  return (
    <section className="play-answer" aria-label={isAlone ? "Answer" : `Answer ${NAMES[place]}`}>
      <header>
        {isAlone ? null : <strong>{NAMES[place]}</strong>}
        <Choice
          label={isAlone ? "Model" : `Model ${NAMES[place]}`}
          value={settings.model}
          onChange={onModel}
          options={names.map((each) => [each, each] as const)}
        />
      </header>
      {answer ? (
        <AnswerView answer={answer} name={name} onRetry={onRetry} onTake={onTake} />
      ) : (
        <p className="small faint">{wrong[0] ?? "Run asks the model; Ctrl-Enter does, too."}</p>
      )}
      {answer && wrong[0] ? <p className="play-problem">{wrong[0]}</p> : null}
    </section>
  );
}
