/**
 * Cuts Markdown into top-level blocks, so that a reply that grows re-renders its last block alone and the ones above
 * stand still. A cut is made at a blank line outside fenced code, and never inside a list, a quotation or a table.
 * Not covered: link references defined in another block stay plain text (models hardly ever write them).
 */

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
// The beginnings of a marker count too: joining two blocks is always right, parting what belongs together is not.
const CONTINUES = /^( {2,}|\t|>|[-*+]( |$)|\d{1,9}([.)]?$|[.)] ))/;

export function splitBlocks(text: string): string[] {
  const blocks: string[] = [];
  let lines: string[] = [];
  let fence: string | null = null;
  let blank = false;
  let open = false;
  for (const line of text.split("\n")) {
    if (fence === null && line.trim() === "") {
      blank = true;
      lines.push(line);
      continue;
    }
    if (blank && fence === null && !(open && CONTINUES.test(line))) {
      pushBlock(blocks, lines);
      lines = [];
    }
    if (lines.length === 0) open = CONTINUES.test(line);
    blank = false;
    fence = nextFence(fence, line);
    lines.push(line);
  }
  pushBlock(blocks, lines);
  return blocks;
}

function pushBlock(blocks: string[], lines: string[]): void {
  const block = lines.join("\n").replace(/^\n+|\s+$/g, "");
  if (block !== "") blocks.push(block);
}

/** The fence that is open after this line: a fence closes with the same sign, at least as long, and nothing after. */
function nextFence(fence: string | null, line: string): string | null {
  const mark = FENCE.exec(line)?.[1];
  if (mark === undefined) return fence;
  if (fence === null) return mark;
  const closes = mark[0] === fence[0] && mark.length >= fence.length && line.trim() === mark;
  return closes ? null : fence;
}
