"""EPUB books: a page for each part of the book, in the order in which it is read."""

import posixpath
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from cairn.data.parsing.archive import Archive, local
from cairn.data.parsing.composer import Composer
from cairn.data.parsing.html import compose_html, decode_html
from cairn.data.parsing.limits import ParsingStoppedError

_DETAILS = ("creator", "language", "date", "publisher", "identifier")
_IMAGE = b"<img", b"<image"


def parse_epub(data: bytes, name: str, composer: Composer) -> None:
    """The text of a book without a lock."""
    details: dict[str, str] = {}
    try:
        archive = Archive(data, composer.limits, composer.deadline)
        root = next(
            (e for e in archive.tree("META-INF/container.xml").iter() if local(e) == "rootfile"), None
        )
        package = root.get("full-path", "") if root is not None else ""
        book = archive.tree(package)
        details = _details(book)
        locked = _locked(archive)
        for path in _parts(book, posixpath.dirname(package)):
            composer.begin_page()
            if path in locked:
                composer.problem("encrypted", "locked by its seller; only a book without a lock is read", 0.0)
                continue
            page = archive.read(path)
            compose_html(decode_html(page), composer)
            if not composer.has_text and any(mark in page for mark in _IMAGE):
                message = "a picture without text; text in it is not recognised"
                composer.problem("image_only", message, confidence=0.0)
    except ParsingStoppedError as stopped:
        composer.stop(stopped.kind, str(stopped))
    title = details.pop("title", "")
    composer.finish("application/epub+zip", title or composer.first_heading, details)


def _details(book: Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in book.find("{*}metadata") or ():
        name, text = local(entry), " ".join((entry.text or "").split())
        if name in ("title", *_DETAILS) and text:
            found.setdefault(name, text)
    return found


def _parts(book: Element, folder: str) -> list[str]:
    """Paths of the parts in reading order, each once."""
    paths = {}
    for item in book.iterfind("{*}manifest/{*}item"):
        target = posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
        if "nav" not in item.get("properties", "").split() and item.get("media-type") in (
            "application/xhtml+xml",
            "text/html",
        ):
            paths[item.get("id")] = target
    order = (paths.get(item.get("idref")) for item in book.iterfind("{*}spine/{*}itemref"))
    return list(dict.fromkeys(path for path in order if path))


def _locked(archive: Archive) -> set[str]:
    return {
        unquote(entry.get("URI", ""))
        for entry in archive.tree("META-INF/encryption.xml").iter()
        if local(entry) == "CipherReference"
    }
