/** Pages that could not be read well: why, whether they are found all the same, and what was read of them. */

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { pageTextQuery } from "../../api/knowledge";
import type { Collection, DocumentEntry } from "../../api/types";
import { counted } from "../../format";
import { Problem, Skeleton } from "../../parts/problem";

const SHOWN = 20;

export function PageProblems({ collection, document }: { collection: Collection; document: DocumentEntry }) {
  const [isAll, setAll] = useState(false);
  const problems = isAll ? document.problems : document.problems.slice(0, SHOWN);
  return (
    <section className="section" aria-labelledby="problems">
      <h2 id="problems">{counted(document.problems.length, "problem")}</h2>
      <ul role="list" className="page-problems">
        {problems.map((problem) => (
          <li key={`${problem.page} ${problem.kind} ${problem.message}`}>
            <p>
              <strong>Page {problem.page}:</strong> {problem.message}{" "}
              <span className={problem.is_indexed ? "tag" : "tag warn"}>
                {problem.is_indexed ? "indexed" : "not indexed"}
              </span>
            </p>
            {document.is_readable ? (
              <PageText collection={collection.ref} documentId={document.id} page={problem.page} />
            ) : null}
          </li>
        ))}
      </ul>
      {problems.length < document.problems.length ? (
        <button type="button" className="button more" onClick={() => setAll(true)}>
          Show all {document.problems.length}
        </button>
      ) : null}
    </section>
  );
}

function PageText(props: { collection: string; documentId: string; page: number }) {
  const [isOpen, setOpen] = useState(false);
  const text = useQuery({
    ...pageTextQuery(props.collection, props.documentId, props.page),
    enabled: isOpen,
  });
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary className="small soft">What was read</summary>
      {isOpen && text.isPending ? <Skeleton lines={2} label="Loading the page" /> : null}
      {text.isError ? <Problem error={text.error} /> : null}
      {text.data ? (
        text.data.text.trim() === "" ? (
          <p className="small faint">Nothing.</p>
        ) : (
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          <pre className="json" tabIndex={0} role="region" aria-label={`Text of page ${props.page}`}>
            {text.data.text}
          </pre>
        )
      ) : null}
    </details>
  );
}
