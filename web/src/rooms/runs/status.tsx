import { Ban, Check, CircleDashed, Equal, Play, X } from "lucide-react";
import { useEffect, useState } from "react";
import type { RunEntry } from "../../api/types";
import { formatDuration } from "../../format";

const ICONS: Record<string, typeof Check> = { succeeded: Check, failed: X, interrupted: Ban, running: Play };

/** A run's state, in words and a shape, not in colour alone. */
export function Status({ status }: { status: string }) {
  const Icon = ICONS[status] ?? CircleDashed;
  return (
    <span className="status" data-status={status}>
      <Icon size={14} aria-hidden />
      {status}
    </span>
  );
}

/** A stage that an earlier build had made already. */
export function Unchanged() {
  return (
    <span className="status" title="An earlier build made it; nothing it depends on has changed">
      <Equal size={14} aria-hidden />
      unchanged
    </span>
  );
}

/** How long a run took, or has been running. */
export function Elapsed({ run }: { run: RunEntry }) {
  const isRunning = run.status === "running";
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    if (!isRunning) return;
    const timer = setInterval(() => setNow(Date.now() / 1000), 1000);
    return () => clearInterval(timer);
  }, [isRunning]);
  const end = run.finished_at ?? (isRunning ? now : null);
  return end === null ? "" : formatDuration(Math.max(0, end - run.started_at));
}

/** What a run is called: the stage of a recipe, or the recipe. */
export function runName(run: RunEntry): string {
  const recipe =
    run.recipe
      .split("/")
      .at(-1)
      ?.replace(/\.toml$/, "") ?? run.recipe;
  return run.stage || recipe || run.run_id;
}
