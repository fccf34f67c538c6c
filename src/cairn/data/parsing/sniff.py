"""What a file is, from its bytes first and its name second."""

import json
import re
import zipfile
from io import BytesIO
from pathlib import PurePath

SUFFIXES = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".mdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".log": "text",
    ".rst": "text",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".json": "json",
    ".geojson": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".ipynb": "notebook",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".eml": "mail",
    ".mbox": "mbox",
}
"""Formats of text that only a name tells apart; the others have marks of their own."""

_CODE_NAMES = ("makefile", "dockerfile", "jenkinsfile", "rakefile", "gemfile", "vagrantfile", "justfile")
SNIFFED_BYTES = 4096
"""Of a file's beginning that say what it is."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MARKS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"BM", "image/bmp"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/x-executable"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"{\\rtf", "application/rtf"),
    (b"PAR1", "application/vnd.apache.parquet"),
)
_CONTAINERS = (
    ("word/", "docx"),
    ("ppt/", "pptx"),
    ("xl/", "xlsx"),
)
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_MAIL_FIELD = re.compile(
    rb"^(?:from|to|subject|date|received|message-id|mime-version|return-path|delivered-to|content-type|reply-to):",
    re.IGNORECASE | re.MULTILINE,
)
_MBOX = re.compile(rb"From \S+.*\d\d:\d\d.*\r?\n[A-Za-z-]+: ")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def sniff(data: bytes, name: str) -> str:
    """A format of ours (`pdf`, `docx`, `markdown`, `code`), or the media type of one that is not read."""
    head = data[:SNIFFED_BYTES]
    if is_pdf(head):
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _container(data)
    if head.startswith(_OLE):
        return "encrypted" if "EncryptedPackage".encode("utf-16-le") in data else "application/x-ole-storage"
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}[head[8:12]]
    if head[4:8] == b"ftyp":
        return "image/heic" if head[8:11] in (b"hei", b"mif", b"avi") else "video/mp4"
    if head.startswith((b"\xff\xfb", b"\xff\xf3")):
        return "audio/mpeg"
    for mark, media_type in _MARKS:
        # Two letters may begin a text as well.
        if head.startswith(mark) and (len(mark) > 2 or _CONTROL.search(head)):
            return media_type
    return _text(data, head, name)


def is_pdf(head: bytes) -> bool:
    """Whether a file that begins so is a PDF; some have a little before their mark."""
    return b"%PDF-" in head[:1024]


def _text(data: bytes, head: bytes, name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    is_wide = head.startswith((b"\xff\xfe", b"\xfe\xff")) or head[::2].count(0) > 0.6 * len(head) / 2
    is_wide = is_wide or head[1::2].count(0) > 0.6 * len(head) / 2
    if not is_wide and len(_CONTROL.findall(head)) > 0.02 * len(head):
        return "application/octet-stream"
    head = head.lstrip(b"\xef\xbb\xbf")
    if suffix != ".md" and _HTML.match(head):
        return "html"
    if _MBOX.match(head):
        return "mbox"
    if name.lower() in _CODE_NAMES:
        return "code"
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    fields = _MAIL_FIELD.findall(head.split(b"\n\n")[0].split(b"\r\n\r\n")[0])
    if len(fields) >= 3 and _MAIL_FIELD.match(head):
        return "mail"
    if suffix:
        return "code"
    return _unnamed(data, head)


def _unnamed(data: bytes, head: bytes) -> str:
    """A text without a suffix."""
    if head.lstrip()[:1] in (b"{", b"["):
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            return "text"
        return "json"
    return "code" if head.startswith(b"#!") else "text"


def _container(data: bytes) -> str:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
            kind = archive.open("mimetype").read(100) if "mimetype" in names else b""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
        return "broken zip"
    if kind.strip() == b"application/epub+zip":
        return "epub"
    if kind.startswith(b"application/vnd.oasis.opendocument."):
        return "application/vnd.oasis.opendocument"
    if "[Content_Types].xml" in names:
        for folder, found in _CONTAINERS:
            if any(name.startswith(folder) for name in names):
                return found
    return "application/zip"
