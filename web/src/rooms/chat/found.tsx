/** What a search of conversations found, each with its passage; a click opens it there. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { foundQuery } from "../../api/organising";
import type { FoundMessage } from "../../api/types";
import { formatWhen } from "../../format";
import { Problem } from "../../parts/problem";

interface FoundProps {
  words: string;
  /** Conversations that are listed already by their titles. */
  listed: ReadonlySet<string>;
  onChosen: (() => void) | undefined;
}

export function Found({ words, listed, onChosen }: FoundProps) {
  const result = useQuery(foundQuery(words));
  const hits = result.data?.hits.filter((hit) => hit.message_id !== null || !listed.has(hit.conversation_id));
  if (result.isError) return <Problem error={result.error} what="Messages were not searched" />;
  return (
    <section aria-label="In messages" aria-busy={result.isFetching}>
      <h2>In messages</h2>
      {hits?.length === 0 ? (
        <p className="blank">No message has {words.trim() ? "these words" : "it"}.</p>
      ) : null}
      <ul role="list" className="found">
        {hits?.map((hit) => (
          <li key={hit.message_id ?? hit.conversation_id}>
            <Link
              to="/chat/$conversationId"
              params={{ conversationId: hit.conversation_id }}
              search={hit.message_id === null ? {} : { message: hit.message_id }}
              className="found-hit"
              onClick={onChosen}
            >
              <span className="found-head">
                <span className="clip">{hit.title}</span>
                <span className="faint numbers">{formatWhen(hit.created_at)}</span>
              </span>
              {hit.message_id === null ? null : <Passage hit={hit} />}
            </Link>
          </li>
        ))}
      </ul>
      {result.data?.has_more ? <p className="blank">There are more; another word narrows it down.</p> : null}
    </section>
  );
}

function Passage({ hit }: { hit: FoundMessage }) {
  return (
    <span className="found-passage">
      {hit.passage.map(({ text, is_match: isMatch }, place) =>
        // biome-ignore lint/suspicious/noArrayIndexKey: the pieces of a passage never change places
        isMatch ? <mark key={place}>{text}</mark> : <span key={place}>{plain(text)}</span>,
      )}
    </span>
  );
}

/** Without the marks of Markdown that only show when it is read as text. */
function plain(text: string): string {
  return text.replace(/\*\*|`+|^#+ /gm, "");
}
