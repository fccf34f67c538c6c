/** What the rooms that are lists begin with. */
import { createLink } from "@tanstack/react-router";
import { ArrowLeft } from "lucide-react";
import type { AnchorHTMLAttributes, ReactNode } from "react";
import { useTitle } from "./title";

interface RoomProps {
  title: string;
  /** Filters and buttons beside the title. */
  tools?: ReactNode;
  children: ReactNode;
}

/** A room by its title, which is the browser tab's too. */
export function Room({ title, tools, children }: RoomProps) {
  useTitle(title);
  return (
    <div className="room">
      <div className="room-head">
        <h1>{title}</h1>
        {tools ? <div className="room-tools">{tools}</div> : null}
      </div>
      {children}
    </div>
  );
}

/** The way back to the list that something stands in. */
export const Back = createLink(({ children, ...anchor }: AnchorHTMLAttributes<HTMLAnchorElement>) => (
  <a {...anchor} className="back">
    <ArrowLeft size={14} aria-hidden /> {children}
  </a>
));
