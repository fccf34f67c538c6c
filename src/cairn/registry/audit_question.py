"""What somebody wants to see of the audit log."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement

from cairn.registry.tables import AuditRow


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuestion:
    """Which entries are wanted: all that hold for what is given."""

    since: float | None = None
    until: float | None = None
    """Unix seconds; entries of `until` itself are not among them."""
    actor: str | None = None
    action: str | None = None
    """One action, or all of a kind: `key.*`."""
    subject: str | None = None
    text: str = ""
    """What stands somewhere in actor, action, subject or details, whatever the case."""
    after: int = 0
    """Only entries that follow this one."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL."""
        found: list[ColumnElement[bool]] = []
        if self.after:
            found.append(AuditRow.seq > self.after)
        if self.since is not None:
            found.append(AuditRow.at >= self.since)
        if self.until is not None:
            found.append(AuditRow.at < self.until)
        if self.actor is not None:
            found.append(AuditRow.actor == self.actor)
        if self.action is not None and self.action.endswith(".*"):
            found.append(AuditRow.action.startswith(self.action[:-1], autoescape=True))
        elif self.action is not None:
            found.append(AuditRow.action == self.action)
        if self.subject is not None:
            found.append(AuditRow.subject == self.subject)
        if self.text:
            whole = AuditRow.actor.concat(" ").concat(AuditRow.action).concat(" ").concat(AuditRow.subject)
            found.append(whole.concat(" ").concat(AuditRow.details).icontains(self.text, autoescape=True))
        return found
