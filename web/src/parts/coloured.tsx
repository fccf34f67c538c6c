import { highlight } from "./highlight";

export default function Coloured({ code, language }: { code: string; language: string }) {
  const spans = highlight(code, language);
  if (!spans) return code;
  return spans.map(({ text, className }, at) =>
    className ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: spans are text in order; their place is their identity
      <span key={at} className={className}>
        {text}
      </span>
    ) : (
      text
    ),
  );
}
