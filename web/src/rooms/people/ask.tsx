/** A question before something that other people or programs will feel. */
import { type FormEvent, type ReactNode, useState } from "react";
import { Modal } from "../../parts/modal";
import { Problem } from "../../parts/problem";

interface SureProps {
  title: string;
  /** What the button says, as in "Revoke it". */
  does: string;
  /** What has to be typed first, of what cannot be undone. */
  word?: string;
  order: { mutate: () => void; isPending: boolean; isError: boolean; error: unknown };
  onClose: () => void;
  children: ReactNode;
}

export function Sure({ title, does, word = "", order, onClose, children }: SureProps) {
  const [typed, setTyped] = useState("");
  const isReady = typed.trim() === word && !order.isPending;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (isReady) order.mutate();
  };
  return (
    <Modal title={title} onClose={onClose}>
      <form className="modal-form" onSubmit={submit}>
        <p>{children}</p>
        {word === "" ? null : (
          <div>
            <label className="label" htmlFor="sure-word">
              Type <strong>{word}</strong> to go on
            </label>
            <input
              id="sure-word"
              className="field"
              autoComplete="off"
              spellCheck={false}
              value={typed}
              onChange={(event) => setTyped(event.target.value)}
            />
          </div>
        )}
        {order.isError ? <Problem error={order.error} what="Not done" /> : null}
        <div className="modal-buttons">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" disabled={!isReady}>
            {does}
          </button>
        </div>
      </form>
    </Modal>
  );
}
