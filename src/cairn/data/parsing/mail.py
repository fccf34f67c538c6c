"""E-mail: one message, or a box of them with a page each; attachments are named, messages inside are read.

Of the versions of a body the plain one is taken, and the HTML one where there is no other.
"""

import re
from collections.abc import Iterable
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime

from cairn.data.parsing.composer import Composer
from cairn.data.parsing.decoding import decode
from cairn.data.parsing.html import compose_html
from cairn.data.parsing.limits import ParsingStoppedError

_SHOWN = ("From", "To", "Cc", "Date")
_MAX_NESTED = 10
_BREAK = re.compile(r"\n[ \t]*\n\s*")
_ENVELOPE = re.compile(rb"^From \S+.*\d{4}.*\r?\n", re.MULTILINE)


def parse_mail(data: bytes, name: str, composer: Composer) -> None:
    """One message; its subject is the title."""
    _messages([data], "message/rfc822", composer)


def parse_mbox(data: bytes, name: str, composer: Composer) -> None:
    """A page for each message of a box."""
    envelopes = list(_ENVELOPE.finditer(data))
    ends = [*(found.start() for found in envelopes[1:]), len(data)]
    parts = (data[found.end() : end] for found, end in zip(envelopes, ends, strict=False))
    _messages(parts, "application/mbox", composer)


def _messages(parts: Iterable[bytes], media_type: str, composer: Composer) -> None:
    first: Message | None = None
    attachments: list[str] = []
    try:
        for part in parts:
            message = message_from_bytes(part)
            first = first or message
            composer.begin_page()
            attachments += _compose(message, composer, 1)
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    details: dict[str, object] = {"attachments": attachments} if attachments else {}
    if first is not None and media_type == "message/rfc822":
        details |= {key.lower(): text for key in _SHOWN if (text := _field(first, key))}
        details |= _date(first)
    composer.finish(media_type, _field(first, "Subject") if first is not None else "", details)


def _compose(message: Message, composer: Composer, level: int) -> list[str]:
    """Add a message's blocks; the names of what is attached to it."""
    if level > _MAX_NESTED:
        composer.problem("too_large", f"messages more than {_MAX_NESTED} deep in each other were not read")
        return []
    subject = _field(message, "Subject") or "(no subject)"
    composer.add("heading", f"{'#' * min(level, 6)} {subject}", level=level)
    fields = ((key, _field(message, key)) for key in _SHOWN)
    composer.add("paragraph", "\n".join(f"{key}: {value}" for key, value in fields if value))
    attached: list[str] = []
    _part(message, composer, level, attached)
    if attached:
        composer.add("list", "Attachments:\n" + "\n".join(f"- {name}" for name in attached))
    return attached


def _part(part: Message, composer: Composer, level: int, attached: list[str]) -> None:
    """A body, the parts of one, or something attached."""
    composer.deadline.check()
    kind = part.get_content_type()
    inner = part.get_payload()
    if kind == "message/rfc822" and isinstance(inner, list):
        for message in inner:
            attached += _compose(message, composer, level + 1) if isinstance(message, Message) else []
    elif part.get_content_disposition() == "attachment" or (
        not isinstance(inner, list) and part.get_filename()
    ):
        payload = part.get_payload(decode=True)
        size = len(payload) if isinstance(payload, bytes) else 0
        attached.append(f"{_decoded(part.get_filename() or 'unnamed')} ({kind}, {size:,} bytes)")
    elif kind == "multipart/alternative" and isinstance(inner, list):
        versions = [version for version in inner if isinstance(version, Message)]
        plain = [
            version
            for version in versions
            if version.get_content_type() == "text/plain" and _body(version).strip()
        ]
        for version in plain[:1] or versions[-1:]:
            _part(version, composer, level, attached)
    elif isinstance(inner, list):
        for child in inner:
            if isinstance(child, Message):
                _part(child, composer, level, attached)
    elif kind == "text/html":
        compose_html(_body(part), composer)
    elif part.get_content_maintype() == "text":
        for paragraph in _BREAK.split(_body(part).replace("\r\n", "\n")):
            composer.add("paragraph", paragraph)
    else:
        attached.append(f"unnamed ({kind})")


def _body(part: Message) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    try:
        return data.decode(part.get_content_charset("ascii"))
    except (LookupError, UnicodeDecodeError):
        return decode(data)[0]


def _field(message: Message, name: str) -> str:
    return " ".join(_decoded(str(message.get(name, ""))).split())


def _decoded(text: str) -> str:
    try:
        return str(make_header(decode_header(text)))
    except (MessageError, LookupError, ValueError):
        return text


def _date(message: Message) -> dict[str, str]:
    try:
        return {"date": parsedate_to_datetime(str(message.get("Date", ""))).isoformat()}
    except (TypeError, ValueError):
        return {}
