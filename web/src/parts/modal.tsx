import { Dialog } from "radix-ui";
import type { ReactNode } from "react";

import "./modal.css";

interface ModalProps {
  title: string;
  onClose: () => void;
  children: ReactNode;
}

/** A question that has to be answered, or put away with Esc, before anything else. */
export function Modal({ title, onClose, children }: ModalProps) {
  return (
    <Dialog.Root open onOpenChange={(isOpen) => (isOpen ? undefined : onClose())}>
      <Dialog.Portal>
        <Dialog.Overlay className="veil" />
        <Dialog.Content className="dialog modal" aria-describedby={undefined}>
          <Dialog.Title className="modal-title">{title}</Dialog.Title>
          {children}
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
