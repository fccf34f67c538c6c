import { Mark } from "../../look/mark";
import { useCollectionName } from "./knowledge-choice";

const SUGGESTIONS = [
  "Tell me a story about a fox who was afraid of the dark.",
  "Write the first lines of a tale about an old lighthouse.",
  "Who lives in the forest, and what do they do all day?",
];

/** What Cairn's own documentation can be asked; of other collections only their makers know. */
const OWN_DOCS = "cairn-docs";
const OWN_QUESTIONS = [
  "What does garbage collection spare?",
  "Who may see a document without labels?",
  "What happens to a page that cannot be read?",
];

interface EmptyProps {
  hasNoModel: boolean;
  /** Name of the collection that is asked; empty: none. */
  knowledge: string;
  onChoose: (text: string) => void;
}

/** What a new conversation shows: three ways to begin, or what to do when no model is there to answer. */
export function Empty({ hasNoModel, knowledge, onChoose }: EmptyProps) {
  const name = useCollectionName(knowledge);
  const suggestions = knowledge === "" ? SUGGESTIONS : knowledge === OWN_DOCS ? OWN_QUESTIONS : [];
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
          <h2>{knowledge ? `Ask ${name}` : "What shall we write?"}</h2>
          {knowledge ? <p className="soft">Replies come from its documents, and say from where.</p> : null}
          <ul role="list">
            {suggestions.map((text) => (
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
