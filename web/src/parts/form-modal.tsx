import type { FormEvent, ReactNode } from "react";
import { Modal } from "./modal";
import { Problem } from "./problem";

/** What is asked of the server: a mutation without arguments. */
export interface Order {
  mutate: () => void;
  isPending: boolean;
  isError: boolean;
  error: unknown;
}

interface FormModalProps extends Omit<ButtonsProps, "isReady"> {
  title: string;
  order: Order;
  /** What is said when it fails, as in "Not made". */
  failed: string;
  /** Whether what was filled in can be sent. */
  isReady?: boolean;
  className?: string;
  children: ReactNode;
}

/** A dialog that asks for something and sends it. */
export function FormModal({
  title,
  order,
  failed,
  isReady = true,
  className = "",
  children,
  ...buttons
}: FormModalProps) {
  const canSend = isReady && !order.isPending;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (canSend) order.mutate();
  };
  return (
    <Modal title={title} onClose={buttons.onClose}>
      <form className={`modal-form ${className}`.trim()} onSubmit={submit}>
        {children}
        {order.isError ? <Problem error={order.error} what={failed} /> : null}
        <ModalButtons {...buttons} isReady={canSend} />
      </form>
    </Modal>
  );
}

interface ButtonsProps {
  /** What the button says, as in "Make it". */
  does: string;
  onClose: () => void;
  isReady: boolean;
  /** Without a form around it: what the button does. */
  onDo?: () => void;
  isDanger?: boolean;
  /** What else can be done, before these. */
  first?: ReactNode;
}

export function ModalButtons({ does, onClose, isReady, onDo, isDanger = false, first }: ButtonsProps) {
  return (
    <div className="modal-buttons">
      {first}
      <button type="button" className="button" onClick={onClose}>
        Cancel
      </button>
      <button
        type={onDo ? "button" : "submit"}
        className={`button ${isDanger ? "danger" : "primary"}`}
        disabled={!isReady}
        onClick={onDo}
      >
        {does}
      </button>
    </div>
  );
}
