"""Labels: who may see a document, and who asks.

A document allows labels, a reader carries some, and one in common opens it. Nothing is open by omission: a
document without labels is seen by nobody, a reader without labels sees nothing.
"""

from collections.abc import Iterable

from cairn.core.chat import Principal
from cairn.core.errors import InvalidRequestError

EVERYONE = "everyone"
_PREFIXES = ("user:", "group:")


def labels_of(principal: Principal) -> frozenset[str]:
    """The labels a reader carries."""
    groups = (f"group:{name}" for name in principal.groups)
    return frozenset({f"user:{principal.user_id}", EVERYONE, *groups})


def may_see(allowed: Iterable[str], reader: frozenset[str] | None) -> bool:
    """Whether a reader's labels open a document; None is maintenance, which sees all."""
    return reader is None or not reader.isdisjoint(allowed)


def checked_labels(labels: Iterable[str]) -> list[str]:
    """Labels as they are kept, sorted, each once; `InvalidRequestError` names one that is none."""
    found = sorted(set(labels))
    for label in found:
        prefix = next((prefix for prefix in _PREFIXES if label.startswith(prefix)), None)
        if label != EVERYONE and (prefix is None or not label.removeprefix(prefix).strip()):
            raise InvalidRequestError(
                f"{label!r} says nobody, allowed: user:NAME, group:NAME, everyone", param="labels"
            )
    return found
