/**
 * The stages of a build. A stage that has not changed is not run again: the run that made its output then, in an
 * earlier build, stands in its place, marked as unchanged.
 */
import type { RunDetail, RunEntry } from "../../api/types";

export interface StageRow {
  run: RunEntry;
  isUnchanged: boolean;
}

/** In the order they were run; none for a run that is no build. */
export function stagesOf(build: RunDetail): StageRow[] {
  const rows = [
    ...build.cached.map((run) => ({ run, isUnchanged: true })),
    ...build.children.map((run) => ({ run, isUnchanged: false })),
  ];
  return rows.sort((a, b) => a.run.started_at - b.run.started_at);
}
