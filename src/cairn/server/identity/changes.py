"""A change of who may do what: its writing session, and the audit entry that is kept with it or not."""

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from cairn.registry import AuditLog


@dataclass(frozen=True, slots=True)
class Change:
    """What `Identity.changing` hands out; commits when its block ends well."""

    session: Session
    audit: AuditLog
    actor: str

    def note(self, action: str, subject: str, **details: Any) -> None:
        """Write it into the audit log."""
        self.audit.append_in(self.session, action, self.actor, subject, details)


def digest_of(secret: str) -> str:
    """What is stored of a secret. It is 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
