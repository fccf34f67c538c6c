"""Zip containers of XML, as Word, PowerPoint, Excel and EPUB write them: unpacked under one bound.

What a container's directory says of sizes is not believed: bytes are counted as they are unpacked. XML with a
document type is refused, and with it every entity, external or exploding.
"""

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError, iterparse

from cairn.data.parsing.limits import Deadline, ParseLimits, ParsingStoppedError

_MAX_ENTRIES = 50_000
_MAX_XML_DEPTH = 500
_PIECE = 1 << 20
_DECLARATION = b"<!DOCTYPE"


class Archive:
    """A zip file in memory; `read` takes from the bytes that may be unpacked from it in all."""

    def __init__(self, data: bytes, limits: ParseLimits, deadline: Deadline) -> None:
        try:
            self._zip = zipfile.ZipFile(BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise ParsingStoppedError("failed", f"its zip container is damaged: {error}") from None
        self.names = self._zip.namelist()
        if len(self.names) > _MAX_ENTRIES:
            raise ParsingStoppedError("too_large", f"its zip container has {len(self.names):,} entries")
        self._left = limits.max_unpacked_bytes
        self._deadline = deadline

    def read(self, name: str) -> bytes:
        """An entry's bytes; none where there is no such entry."""
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            return b""
        if info.flag_bits & 1:
            raise ParsingStoppedError("encrypted", "locked by a password; save it without one")
        data = bytearray()
        try:
            with self._zip.open(info) as entry:
                while piece := entry.read(_PIECE):
                    self._deadline.check()
                    self._left -= len(piece)
                    if self._left < 0:
                        raise ParsingStoppedError(
                            "too_large", "its zip container unpacks to more than is allowed"
                        )
                    data += piece
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError) as error:
            raise ParsingStoppedError("failed", f"{name} in its zip container is damaged: {error}") from None
        return bytes(data)

    def tree(self, name: str) -> Element:
        """An entry's XML as a tree; empty where there is none."""
        root = Element("empty")
        for event, element in self.events(name):
            if event == "end":
                root = element
        return root

    def events(self, name: str) -> Iterator[tuple[str, Element]]:
        """Start and end of each element of an entry; who reads a long one clears what is done with."""
        data = self.read(name)
        if not data:
            return
        # UTF-16 has a zero beside each letter.
        if _DECLARATION in (data.replace(b"\0", b"") if b"\0" in data[:4] else data):
            raise ParsingStoppedError("failed", f"{name} declares a document type, which is refused")
        depth = 0
        try:
            for at, (event, element) in enumerate(iterparse(BytesIO(data), ("start", "end"))):
                if at % 4096 == 0:
                    self._deadline.check()
                depth += 1 if event == "start" else -1
                if depth > _MAX_XML_DEPTH:
                    raise ParsingStoppedError(
                        "too_large", f"{name} is nested more than {_MAX_XML_DEPTH} deep"
                    )
                yield event, element
        except ParseError as error:
            raise ParsingStoppedError("failed", f"{name} is no well-formed XML: {error}") from None

    def links(self, name: str) -> dict[str, tuple[str, str]]:
        """Of an Office part: for each relation's id the last word of its type, and the part it leads to."""
        folder, base = posixpath.split(name)
        found = {}
        for relation in self.tree(f"{folder}/_rels/{base}.rels".lstrip("/")):
            if relation.get("TargetMode") != "External":
                target = relation.get("Target", "")
                path = posixpath.normpath(posixpath.join("/", folder, unquote(target))).lstrip("/")
                found[relation.get("Id", "")] = (relation.get("Type", "").rpartition("/")[2], path)
        return found


def local(element: Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def attribute(element: Element, name: str) -> str:
    """An attribute's value, whatever its namespace."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value
    return ""


def properties(archive: Archive) -> dict[str, str]:
    """Title, creator and dates of an Office file."""
    wanted = {"title", "creator", "created", "modified", "subject", "keywords", "language"}
    found = {local(child): (child.text or "").strip() for child in archive.tree("docProps/core.xml")}
    return {name: value for name, value in found.items() if name in wanted and value}
