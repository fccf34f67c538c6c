/** What stands around every room: the rail, the command palette, the notices. */
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import {
  Activity,
  BookOpen,
  Boxes,
  ChartColumn,
  ChartGantt,
  Command,
  FlaskConical,
  KeyRound,
  type LucideIcon,
  MessageSquare,
  ScrollText,
  Settings,
  Users,
  Waypoints,
} from "lucide-react";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { useMay } from "../api/identity";
import { Mark } from "../look/mark";
import { Toasts } from "./toasts";

const Palette = lazy(() => import("./palette"));

/** Rooms, each for whoever has the permission that its first question asks for. */
const ROOMS = [
  { to: "/chat", name: "Chat", Icon: MessageSquare, needs: "conversations" },
  { to: "/playground", name: "Playground", Icon: FlaskConical, needs: "chat" },
  { to: "/knowledge", name: "Knowledge", Icon: BookOpen, needs: "read_knowledge" },
  { to: "/models", name: "Models", Icon: Boxes, needs: "read_catalogue" },
  { to: "/runs", name: "Runs", Icon: Activity, needs: "read_catalogue" },
  { to: "/usage", name: "Usage", Icon: ChartColumn, needs: "read_usage" },
  { to: "/traces", name: "Traces", Icon: ChartGantt, needs: "read_traces" },
  { to: "/routes", name: "Routes", Icon: Waypoints, needs: "manage_routes" },
  { to: "/keys", name: "Keys", Icon: KeyRound, needs: "own_keys" },
  { to: "/people", name: "People", Icon: Users, needs: "manage_people" },
  { to: "/audit", name: "Audit", Icon: ScrollText, needs: "read_audit" },
  { to: "/settings", name: "Settings", Icon: Settings, needs: "account" },
] as const satisfies readonly { to: string; name: string; Icon: LucideIcon; needs: string }[];

/** The rooms that are open to who is signed in. */
export function useRooms() {
  const may = useMay();
  return ROOMS.filter(({ needs }) => may(needs));
}

export function Shell() {
  const [isPaletteOpen, setPaletteOpen] = useState(false);
  const rooms = useRooms();
  const list = useRef<HTMLUListElement>(null);
  const here = useLocation({ select: ({ pathname }) => pathname.split("/")[1] });

  // On a phone the rail scrolls: the room that one is in is to be seen in it.
  // biome-ignore lint/correctness/useExhaustiveDependencies: another room, or more of them, is the reason to look
  useEffect(() => {
    const link = list.current?.querySelector("[aria-current=page]");
    link?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [here, rooms.length]);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey) return;
      event.preventDefault();
      setPaletteOpen((isOpen) => !isOpen);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  return (
    <div className="shell">
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <nav className="rail" aria-label="Rooms">
        <Link to="/chat" className="rail-mark" aria-label="Cairn, to the chat">
          <Mark size={30} />
        </Link>
        <ul role="list" ref={list}>
          {rooms.map(({ to, name, Icon }) => (
            <li key={to}>
              <Link to={to} className="rail-link" activeProps={{ "aria-current": "page" }}>
                <Icon size={19} strokeWidth={1.75} aria-hidden />
                <span>{name}</span>
              </Link>
            </li>
          ))}
        </ul>
        <button
          type="button"
          className="rail-link rail-command"
          aria-keyshortcuts="Control+K"
          title="Go to… (Ctrl-K)"
          onClick={() => setPaletteOpen(true)}
        >
          <Command size={19} strokeWidth={1.75} aria-hidden />
          <span>Go to</span>
        </button>
      </nav>
      <main id="main" tabIndex={-1}>
        <Outlet />
      </main>
      {isPaletteOpen ? (
        <Suspense fallback={null}>
          <Palette onClose={() => setPaletteOpen(false)} />
        </Suspense>
      ) : null}
      <Toasts />
    </div>
  );
}
