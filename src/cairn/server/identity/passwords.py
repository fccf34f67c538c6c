"""Passwords: argon2id, with the parameters of RFC 9106 for little memory (64 MiB, three passes)."""

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cairn.core.errors import InvalidRequestError

MIN_LENGTH = 10
_MAX_LENGTH = 1000
_HASHER = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4)
_AT_ONCE = threading.BoundedSemaphore(2)
"""Guesses by the hundred must not take memory by the hundred."""
NOBODYS = "$argon2id$v=19$m=65536,t=3,p=4$c29tZWJvZHkgZWxzZSdzIQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""Checked for names that have no password, so that time does not tell them apart."""


def hashed(password: str, *, user_id: str) -> str:
    """The hash to keep of a new password; `InvalidRequestError` for one that is too easy."""
    text = _plain(password)
    if not MIN_LENGTH <= len(text) <= _MAX_LENGTH:
        raise InvalidRequestError(
            f"the password has {len(text)} characters, allowed: {MIN_LENGTH} to {_MAX_LENGTH}",
            remedy="a few words in a row are easy to remember",
            param="password",
        )
    if text.casefold() == user_id.casefold() or len(set(text)) < 4:
        raise InvalidRequestError(
            "the password is one that is guessed first", remedy="choose another", param="password"
        )
    with _AT_ONCE:
        return _HASHER.hash(text)


def is_right(kept: str | None, password: str) -> bool:
    """Whether a password is the one kept; takes as long when none is."""
    with _AT_ONCE:
        try:
            return _HASHER.verify(kept or NOBODYS, _plain(password)[: _MAX_LENGTH + 1]) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


def needs_rehash(kept: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(kept)


def _plain(password: str) -> str:
    """One spelling of the same characters, whatever keyboard they came from."""
    return unicodedata.normalize("NFKC", password)
