/** Search in a collection: the words found, and what each stage thought of every passage. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { Search as Glass } from "lucide-react";
import { type FormEvent, useEffect, useState } from "react";
import { searchQuery } from "../../api/knowledge";
import type { Collection, SearchHit } from "../../api/types";
import { QueryState } from "../../parts/query-state";
import { type Scale, STAGES, scalesOf, shareOf } from "./stages";
import { flowed, piecesOf, tight } from "./text";

export function Search({ collection }: { collection: Collection }) {
  const { find = "" } = useSearch({ from: "/house/knowledge/$collection" });
  const navigate = useNavigate({ from: "/knowledge/$collection" });
  const [text, setText] = useState(find);
  useEffect(() => setText(find), [find]);
  const look = (query: string) => void navigate({ search: (old) => ({ ...old, find: query }) });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    look(text.trim());
  };
  return (
    <search>
      <form className="search-form" onSubmit={submit}>
        <div className="filter">
          <Glass size={16} aria-hidden />
          <input
            type="search"
            className="field"
            aria-label={`Search in ${collection.name}`}
            placeholder="A question, or words"
            maxLength={2000}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </div>
        <button type="submit" className="button primary" disabled={text.trim() === ""}>
          Search
        </button>
      </form>
      {find ? <Found collection={collection} query={find} onClose={() => look("")} /> : null}
    </search>
  );
}

interface FoundProps {
  collection: Collection;
  query: string;
  onClose: () => void;
}

function Found({ collection, query, onClose }: FoundProps) {
  const found = useQuery(searchQuery(collection.ref, query));
  const hits = found.data?.hits ?? [];
  const scales = scalesOf(hits);
  return (
    <section className="found" aria-label="What was found">
      <div className="uploads-head small">
        <span role="status">
          {found.isSuccess
            ? hits.length > 0
              ? `The best ${hits.length}, best first`
              : "Nothing was found"
            : ""}
        </span>
        <button type="button" className="link-button" onClick={onClose}>
          Close
        </button>
      </div>
      <QueryState query={found} what="The passages" count={hits.length}>
        <p>
          No passage that is open to you fits. Try other words, or a whole question; pages that are not
          indexed are marked in the list below.
        </p>
      </QueryState>
      <ol role="list" className="hits">
        {hits.map((hit, place) => (
          <Hit key={hit.chunk_id} collection={collection.ref} hit={hit} number={place + 1} scales={scales} />
        ))}
      </ol>
    </section>
  );
}

interface HitProps {
  collection: string;
  hit: SearchHit;
  number: number;
  scales: ReadonlyMap<string, Scale>;
}

function Hit({ collection, hit, number, scales }: HitProps) {
  return (
    <li className="hit">
      <div className="hit-head">
        <span className="hit-number numbers">{number}</span>
        <Link
          to="/knowledge/$collection/documents/$documentId"
          params={{ collection, documentId: hit.document_id }}
          search={{ passage: hit.chunk_id }}
        >
          {hit.source}
        </Link>
        <span className="small faint">
          page {hit.page}
          {hit.heading.length > 0 ? ` · ${hit.heading.join(" › ")}` : ""}
        </span>
      </div>
      <p className="hit-text">
        {piecesOf(flowed(hit.text), hit.highlights).map((piece, place) =>
          piece.isMarked ? (
            // biome-ignore lint/suspicious/noArrayIndexKey: the pieces of a fixed text never change places
            <mark key={place}>{piece.text}</mark>
          ) : (
            tight(piece.text)
          ),
        )}
      </p>
      <dl className="stages" aria-label="Scores by stage">
        {STAGES.filter(({ name }) => scales.has(name)).map(({ name, label, hint }) => (
          <StageBar key={name} label={label} hint={hint} score={hit.stages[name]} scale={scales.get(name)} />
        ))}
      </dl>
    </li>
  );
}

interface StageBarProps {
  label: string;
  hint: string;
  score: number | undefined;
  scale: Scale | undefined;
}

function StageBar({ label, hint, score, scale }: StageBarProps) {
  return (
    <div className="stage" title={hint}>
      <dt>{label}</dt>
      <dd>
        <span className="stage-bar" aria-hidden>
          {score !== undefined && scale ? (
            <span style={{ width: `${100 * shareOf(score, scale)}%` }} />
          ) : null}
        </span>
        <span className="numbers">{score === undefined ? "–" : score.toFixed(2)}</span>
      </dd>
    </div>
  );
}
