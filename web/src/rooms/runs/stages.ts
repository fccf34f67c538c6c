/**
 * The stages of a build. A stage that has not changed is not run again, so the build has no run of its own for it:
 * the run that made the artifact then, in an earlier build, stands in its place, marked as unchanged.
 */
import type { RunDetail, RunEntry } from "../../api/types";

export interface StageRow {
  run: RunEntry;
  isUnchanged: boolean;
}

/** `known` are the digests that went into the build's result; `runs` are all runs, newest first. */
export function stagesOf(
  build: RunDetail,
  runs: readonly RunEntry[],
  known: ReadonlySet<string>,
): StageRow[] {
  const own = build.children.map((run) => ({ run, isUnchanged: false }));
  const names = new Set(build.children.map((run) => run.stage));
  const earlier: StageRow[] = [];
  for (const run of runs) {
    const isSource = run.output !== null && known.has(run.output) && run.status === "succeeded";
    const isEarlier = run.recipe === build.recipe && run.stage !== "" && run.started_at < build.started_at;
    if (!isSource || !isEarlier || names.has(run.stage)) continue;
    names.add(run.stage);
    earlier.push({ run, isUnchanged: true });
  }
  return [...earlier, ...own].sort((a, b) => a.run.started_at - b.run.started_at);
}

/** An artifact whose ancestors are the build's: its result, or as far as it has come. */
export function anchorOf(build: RunDetail): string | null {
  if (build.output) return build.output;
  const done = build.children.filter((run) => run.output !== null);
  return done.sort((a, b) => b.started_at - a.started_at)[0]?.output ?? null;
}
