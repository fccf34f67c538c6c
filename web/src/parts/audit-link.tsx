import { Link } from "@tanstack/react-router";
import { History } from "lucide-react";
import type { AuditOnly } from "../api/audit";
import { useMay } from "../api/identity";

interface AuditLinkProps {
  /** Which entries are shown. */
  only: AuditOnly;
  /** What they tell, as in "Who changed this key". */
  label: string;
  /** Whether the label is shown, and not only told. */
  isText?: boolean;
}

/** Who changed something, for those who may read the audit log; nothing for others. */
export function AuditLink({ only, label, isText = false }: AuditLinkProps) {
  if (!useMay()("read_audit")) return null;
  return (
    <Link
      to="/audit"
      search={only}
      className={isText ? "audit-link small" : "icon-button tight"}
      aria-label={isText ? undefined : label}
      title={isText ? undefined : label}
    >
      <History size={15} aria-hidden />
      {isText ? label : null}
    </Link>
  );
}
