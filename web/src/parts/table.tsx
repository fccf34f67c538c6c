import type { ReactNode } from "react";

export interface Column {
  head: ReactNode;
  /** Numbers and times: at the right edge. */
  isRight?: boolean;
  /** Left out on a phone; its cells are `wide-only` too. */
  isWide?: boolean;
}

interface TableProps {
  columns: readonly (string | Column)[];
  className?: string;
  caption?: string;
  /** The rows. */
  children: ReactNode;
}

/** A list under column heads; what is too wide scrolls inside it. */
export function Table({ columns, className = "", caption, children }: TableProps) {
  return (
    <div className="table-scroll">
      <table className={`table ${className}`.trim()}>
        {caption ? <caption className="hidden-visually">{caption}</caption> : null}
        <thead>
          <tr>
            {columns.map((column, place) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: the columns of a table never change places
              <Head key={place} column={typeof column === "string" ? { head: column } : column} />
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

function Head({ column: { head, isRight, isWide } }: { column: Column }) {
  const classes = [isRight ? "right" : "", isWide ? "wide-only" : ""].filter(Boolean).join(" ");
  return (
    <th scope="col" className={classes || undefined}>
      {head}
    </th>
  );
}
