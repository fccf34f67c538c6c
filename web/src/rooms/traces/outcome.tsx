import { Ban, Check, DoorOpen, RotateCcw, X } from "lucide-react";
import type { TraceLine } from "../../api/types";

type Outcome = TraceLine["outcome"];

/** How requests end, in the words of the list. */
export const OUTCOMES: Record<Outcome, string> = {
  ok: "answered",
  recovered: "recovered",
  refused: "refused",
  failed: "failed",
  aborted: "cut off",
};
const ICONS: Record<Outcome, typeof Check> = {
  ok: Check,
  recovered: RotateCcw,
  refused: Ban,
  failed: X,
  aborted: DoorOpen,
};

/** How a request ended, in words and a shape, not in colour alone. */
export function OutcomeMark({ outcome, error = "" }: { outcome: Outcome; error?: string }) {
  const Icon = ICONS[outcome];
  return (
    <span className="trace-outcome" data-outcome={outcome} title={error || undefined}>
      <Icon size={14} aria-hidden />
      {OUTCOMES[outcome]}
    </span>
  );
}
