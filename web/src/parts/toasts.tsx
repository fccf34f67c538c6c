/** Short notices at the foot of the page: what was just done, and how to undo it. */
import { Toast } from "radix-ui";
import { useSyncExternalStore } from "react";

interface Notice {
  id: number;
  text: string;
  undo?: (() => void) | undefined;
}

let notices: readonly Notice[] = [];
let lastId = 0;
const listeners = new Set<() => void>();

function change(next: readonly Notice[]): void {
  notices = next;
  for (const listener of listeners) listener();
}

export function notify(text: string, undo?: () => void): void {
  lastId += 1;
  change([...notices.slice(-2), { id: lastId, text, undo }]);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function Toasts() {
  const shown = useSyncExternalStore(subscribe, () => notices);
  return (
    <Toast.Provider duration={8000} label="Notice">
      {shown.map(({ id, text, undo }) => (
        <Toast.Root
          key={id}
          className="toast"
          onOpenChange={(isOpen) => {
            if (!isOpen) change(notices.filter((notice) => notice.id !== id));
          }}
        >
          <Toast.Description>{text}</Toast.Description>
          {undo ? (
            <Toast.Action altText="Undo" onClick={undo}>
              Undo
            </Toast.Action>
          ) : null}
        </Toast.Root>
      ))}
      <Toast.Viewport className="toasts" />
    </Toast.Provider>
  );
}
