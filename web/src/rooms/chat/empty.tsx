import { Mark } from "../../look/mark";

const SUGGESTIONS = [
  "Tell me a story about a fox who was afraid of the dark.",
  "Write the first lines of a tale about an old lighthouse.",
  "Who lives in the forest, and what do they do all day?",
];

interface EmptyProps {
  hasNoModel: boolean;
  onChoose: (text: string) => void;
}

/** What a new conversation shows: three ways to begin, or what to do when no model is there to answer. */
export function Empty({ hasNoModel, onChoose }: EmptyProps) {
  return (
    <div className="empty">
      <Mark size={56} />
      {hasNoModel ? (
        <>
          <h2>No model is here to answer yet</h2>
          <p className="soft">
            Build a small one from text in a few minutes with <code>cairn build recipes/tutorial.toml</code>,
            or bring one with <code>cairn import PATH</code>.
          </p>
        </>
      ) : (
        <>
          <h2>What shall we write?</h2>
          <ul role="list">
            {SUGGESTIONS.map((text) => (
              <li key={text}>
                <button type="button" className="button suggestion" onClick={() => onChoose(text)}>
                  {text}
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
