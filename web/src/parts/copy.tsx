/** Copies a text and says so, in the button itself and to a screen reader. */
import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";

interface CopyButtonProps {
  text: string;
  /** What is copied, as in "Copy the digest". */
  label: string;
  className?: string;
  children?: string;
}

export function CopyButton({ text, label, className = "icon-button tight", children }: CopyButtonProps) {
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(() => setCopied(false), 1600);
    return () => clearTimeout(timer);
  }, [isCopied]);

  return (
    <button
      type="button"
      className={className}
      aria-label={isCopied ? "Copied" : label}
      title={label}
      onClick={() => void copyText(text).then(setCopied)}
    >
      {isCopied ? <Check size={14} aria-hidden /> : <Copy size={14} aria-hidden />}
      {children ? <span>{isCopied ? "Copied" : children}</span> : null}
    </button>
  );
}

/** The clipboard needs a secure context; over plain HTTP from another machine a selection does. */
async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}
