/** Markdown as elements, never as HTML: what a model or a card writes cannot run anything. */
import { memo } from "react";
import ReactMarkdown, { type Components, type Options } from "react-markdown";
import remarkGfm from "remark-gfm";
import { splitBlocks } from "./blocks";
import { CodeBlock } from "./code";
import "./markdown.css";

const PLUGINS = [remarkGfm];

const COMPONENTS: Components = {
  // Fenced code: the block draws its own frame, so the outer <pre> would only nest.
  pre: ({ children }) => <>{children}</>,
  code: ({ className, children }) => {
    const text = typeof children === "string" ? children : "";
    const language = /language-(\S+)/.exec(className ?? "")?.[1];
    // Inline code has no line end; a fenced block always ends with one.
    if (language === undefined && !text.endsWith("\n")) return <code>{children}</code>;
    return <CodeBlock code={text.replace(/\n$/, "")} language={language ?? ""} />;
  },
  a: ({ href, children }) => (
    <a href={href} target="_blank" rel="noreferrer noopener">
      {children}
    </a>
  ),
  // Pictures would be fetched from wherever the text says: that tells a stranger who reads what. A link does not.
  img: ({ src, alt }) => <a href={typeof src === "string" ? src : undefined}>{alt || "image"}</a>,
  table: ({ children }) => (
    <div className="table-scroll">
      <table>{children}</table>
    </div>
  ),
  input: ({ checked }) => <span aria-hidden>{checked ? "☑ " : "☐ "}</span>,
};

/** A piece of a document has its links from there: what leads to a neighbour of its file leads nowhere here. */
const EXCERPT: Components = {
  ...COMPONENTS,
  a: ({ href, children }) =>
    /^(https?|mailto):/.test(href ?? "") ? (
      <a href={href} target="_blank" rel="noreferrer noopener">
        {children}
      </a>
    ) : (
      <span>{children}</span>
    ),
  img: ({ alt }) => <span>{alt || "image"}</span>,
};

interface MarkdownProps {
  text: string;
  /** Of a document that is not here. */
  isExcerpt?: boolean;
}

const Block = memo(function Block({ text, isExcerpt = false }: MarkdownProps) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={isExcerpt ? EXCERPT : COMPONENTS}>
      {text}
    </ReactMarkdown>
  );
});

export function Markdown({ text, isExcerpt = false }: MarkdownProps) {
  return (
    <div className="markdown">
      {splitBlocks(text).map((block, place) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a block's place is its identity while the text grows
        <Block key={place} text={block} isExcerpt={isExcerpt} />
      ))}
    </div>
  );
}

interface ChangedMarkdownProps {
  text: string;
  /** Elements besides the usual ones. */
  components: Components;
  /** Changes the tree of the text. */
  plugin: NonNullable<Options["remarkPlugins"]>[number];
}

/** Markdown of a text that is complete, with elements of the caller's own in it. */
export function ChangedMarkdown({ text, components, plugin }: ChangedMarkdownProps) {
  return (
    <div className="markdown">
      <ReactMarkdown remarkPlugins={[...PLUGINS, plugin]} components={{ ...COMPONENTS, ...components }}>
        {text}
      </ReactMarkdown>
    </div>
  );
}
