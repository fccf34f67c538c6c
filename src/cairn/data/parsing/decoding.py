"""Bytes of a text file as text, in whatever encoding they are.

Order of belief: a byte order mark, valid UTF-8, UTF-16 or -32 by where its zeros stand, UTF-8 with a few
broken bytes, what charset-normalizer makes of a sample, and Windows-1252, in which every byte is something.
"""

import codecs

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 1 << 16
_BROKEN_SHARE = 0.01
"""Of a text's non-ASCII characters that may be broken for it still to be UTF-8."""


def decode(data: bytes) -> tuple[str, str]:
    """The text and its encoding. Valid UTF-8 stays as it is, its byte order mark too."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace"), encoding
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        pass
    encoding = _wide(data) or ("utf-8" if _nearly_utf8(data) else _guess(data))
    return data.decode(encoding, "replace"), encoding


def _wide(data: bytes) -> str:
    sample = data[:_SAMPLE]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) < 0.3 * len(sample) / 2 or min(even, odd) > 0.1 * max(even, odd):
        return ""
    return "utf-16-be" if even > odd else "utf-16-le"


def _nearly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return broken <= _BROKEN_SHARE * (len(text) - len(text.encode("ascii", "ignore")))


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes  # noqa: PLC0415 - 30 ms that most texts do without

    best = from_bytes(data[:_SAMPLE], enable_fallback=False).best()
    if best is None:
        return "cp1252"
    try:
        data.decode(best.encoding)
    except UnicodeDecodeError:
        # The sample may end within a character; what follows it may not agree.
        return best.encoding if len(data) > _SAMPLE else "cp1252"
    return best.encoding
