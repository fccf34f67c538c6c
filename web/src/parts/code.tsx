import { lazy, Suspense } from "react";
import { CopyButton } from "./copy";

const Coloured = lazy(() => import("./coloured"));

/** A block of code with its language and a copy button. It reads as plain text until the colours are there. */
interface CodeBlockProps {
  code: string;
  language: string;
  /** What it is, where the language does not say it. */
  title?: string;
}

export function CodeBlock({ code, language, title }: CodeBlockProps) {
  return (
    <figure className="code-block">
      <figcaption>
        <span>{title ?? (language || "text")}</span>
        <CopyButton text={code} label="Copy the code" className="code-copy">
          Copy
        </CopyButton>
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre tabIndex={0}>
        <code>
          {language ? (
            <Suspense fallback={code}>
              <Coloured code={code} language={language} />
            </Suspense>
          ) : (
            code
          )}
        </code>
      </pre>
    </figure>
  );
}
