/** One entry in full, and what it leads to. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { AuditEntry } from "../../api/types";
import { formatMoment } from "../../format";
import { CopyButton } from "../../parts/copy";
import { Modal } from "../../parts/modal";

export function Entry({ entry, onClose }: { entry: AuditEntry; onClose: () => void }) {
  const details = JSON.stringify(entry.details, null, 2);
  return (
    <Modal title={`Entry ${entry.seq.toLocaleString("en-GB")}: ${entry.action}`} onClose={onClose}>
      <div className="modal-form">
        <dl className="facts">
          <dt>When</dt>
          <dd>{formatMoment(entry.at)}</dd>
          <dt>By</dt>
          <dd>
            <Only name="actor" value={entry.actor} onClose={onClose}>
              {entry.actor}
            </Only>
          </dd>
          <dt>Subject</dt>
          <dd className="audit-subject">
            {entry.subject === "" ? (
              <span className="faint">none</span>
            ) : (
              <Only name="subject" value={entry.subject} onClose={onClose}>
                {entry.subject}
              </Only>
            )}
          </dd>
          <dt>Seal</dt>
          <dd>
            <code className="audit-subject small">{entry.hash}</code>
          </dd>
        </dl>
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
        <pre className="json" tabIndex={0}>
          {details}
        </pre>
        <div className="modal-buttons">
          <CopyButton text={JSON.stringify(entry, null, 2)} label="Copy the entry" className="button">
            Copy
          </CopyButton>
          <button type="button" className="button" onClick={onClose}>
            Close
          </button>
        </div>
      </div>
    </Modal>
  );
}

interface OnlyProps {
  name: "actor" | "subject";
  value: string;
  onClose: () => void;
  children: ReactNode;
}

/** Everything by this one, or about this. */
function Only({ name, value, onClose, children }: OnlyProps) {
  return (
    <Link to="/audit" search={{ [name]: value }} onClick={onClose} title="All entries">
      {children}
    </Link>
  );
}
