/** A question before something that other people or programs will feel. */
import { type ReactNode, useState } from "react";
import { FormModal, type Order } from "./form-modal";
import { TextField } from "./text-field";

interface SureProps {
  title: string;
  /** What the button says, as in "Revoke it". */
  does: string;
  /** What has to be typed first, of what cannot be undone. */
  word?: string;
  order: Order;
  failed?: string;
  isDanger?: boolean;
  onClose: () => void;
  children: ReactNode;
}

export function Sure({ word = "", failed = "Not done", children, ...rest }: SureProps) {
  const [typed, setTyped] = useState("");
  return (
    <FormModal {...rest} failed={failed} isReady={typed.trim() === word}>
      <p>{children}</p>
      {word === "" ? null : (
        <TextField
          label={
            <>
              Type <strong>{word}</strong> to go on
            </>
          }
          value={typed}
          onChange={setTyped}
        />
      )}
    </FormModal>
  );
}
