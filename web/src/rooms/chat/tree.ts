/**
 * A conversation is a tree: an edited question and a second answer are siblings of the first. One path through it is
 * shown; where a turn has siblings, the reader picks one, and the newest is the default.
 */
import type { Turn } from "../../api/types";

/** The child picked under a turn; `""` stands for the root. */
export type Picks = Readonly<Record<string, string>>;

export interface Step {
  turn: Turn;
  /** All turns with the same parent and role, oldest first, this one included. */
  siblings: readonly Turn[];
}

const key = (parentId: string | null) => parentId ?? "";

export function childrenByParent(turns: readonly Turn[]): Map<string, Turn[]> {
  const known = new Set(turns.map((turn) => turn.id));
  const children = new Map<string, Turn[]>();
  for (const turn of turns) {
    // A turn whose parent is not here would vanish with its whole branch: it is shown as a first turn instead.
    const parent = turn.parent_id !== null && known.has(turn.parent_id) ? turn.parent_id : "";
    const list = children.get(parent);
    if (list) list.push(turn);
    else children.set(parent, [turn]);
  }
  return children;
}

/** The turns on the picked path, first to last. */
export function pathOf(turns: readonly Turn[], picks: Picks): Step[] {
  const children = childrenByParent(turns);
  const path: Step[] = [];
  let parent = "";
  for (;;) {
    const siblings = children.get(parent);
    const turn = siblings?.find((candidate) => candidate.id === picks[parent]) ?? siblings?.at(-1);
    // A parent loop cannot come from this page, but stored data must not be able to hang it.
    if (!siblings || !turn || path.length > turns.length) return path;
    path.push({ turn, siblings });
    parent = turn.id;
  }
}

/** Picks that show this turn: the picks of today, with every ancestor's choice turned towards it. */
export function picksTowards(turns: readonly Turn[], picks: Picks, id: string): Picks {
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  const next: Record<string, string> = { ...picks };
  let turn = byId.get(id);
  const seen = new Set<string>();
  while (turn && !seen.has(turn.id)) {
    seen.add(turn.id);
    next[key(turn.parent_id)] = turn.id;
    turn = turn.parent_id === null ? undefined : byId.get(turn.parent_id);
  }
  return next;
}

/** The turns from the first to this one, whatever is picked: what a model is shown when asked to answer it. */
export function ancestry(turns: readonly Turn[], id: string | null): Turn[] {
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  const line: Turn[] = [];
  let turn = id === null ? undefined : byId.get(id);
  while (turn && line.length <= turns.length) {
    line.unshift(turn);
    turn = turn.parent_id === null ? undefined : byId.get(turn.parent_id);
  }
  return line;
}
