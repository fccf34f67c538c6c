"""Cleaning: the same text in one encoding, without what is not text.

Mojibake is repaired where the repair is certain, Unicode composed (NFC), control and invisible
characters removed, frames around books (Project Gutenberg's licence, front matter) taken off, hard-wrapped
paragraphs joined, white space evened out. Cleaning twice changes nothing more.
"""

import re
import statistics
import unicodedata
from collections.abc import Mapping

from pydantic import Field

from cairn.core.config import Config


class CleanConfig(Config):
    """What cleaning does; each part can be switched off."""

    mojibake: bool = Field(default=True, description="mend UTF-8 that was once read as Windows-1252")
    unicode: bool = Field(
        default=True, description="compose to NFC and remove control and invisible characters"
    )
    frames: bool = Field(default=True, description="remove Project Gutenberg's frame and front matter")
    unwrap: bool = Field(default=True, description="join the lines of hard-wrapped paragraphs")
    whitespace: bool = Field(default=True, description="even out spaces and blank lines")


def clean_text(text: str, config: CleanConfig | None = None) -> tuple[str, Mapping[str, str]]:
    """The clean text, and what a removed frame said about it (title, author, year)."""
    config = config or CleanConfig()
    found: dict[str, str] = {}
    if config.mojibake:
        text = repair_mojibake(text)
    if config.unicode:
        text = normalise_unicode(text)
    if config.frames:
        text, found = remove_frames(text)
    if config.unwrap:
        text = unwrap_paragraphs(text)
    if config.whitespace:
        text = even_whitespace(text)
    return text, found


# What the bytes 0x80 to 0xBF look like when read as Windows-1252 (or Latin-1 where that has none).
_IMAGES = {byte: bytes([byte]).decode("cp1252", "replace") for byte in range(0x80, 0xC0)}
_IMAGES = {byte: chr(byte) if image == "\ufffd" else image for byte, image in _IMAGES.items()}
_BYTE_OF_IMAGE = {image: byte for byte, image in _IMAGES.items()} | {
    chr(byte): byte for byte in range(0x80, 0x100)
}
_TAIL = "[" + re.escape("".join(sorted({*_IMAGES.values(), *map(chr, range(0x80, 0xC0))}))) + "]"
# One class in front, so that the engine can look for it without trying to match everywhere.
_MOJIBAKE = re.compile(f"[\xc2-\xf4]{_TAIL}{{1,3}}")


def repair_mojibake(text: str) -> str:
    """Undo UTF-8 read as Windows-1252 (`donâ€™t`), only where no real text could look like it."""
    while not text.isascii() and (mended := _MOJIBAKE.sub(_decoded, text)) != text:
        text = mended  # again, as some text went through this twice
    return text


def _decoded(match: re.Match[str]) -> str:
    lead = ord(match[0][0])
    length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    run, rest = match[0][:length], match[0][length:]
    # `Ã©` is never written on purpose, but a capital before a letter (`ÂŒ`) might be.
    if all(character.isalpha() for character in run):
        return match[0]
    try:
        return bytes(_BYTE_OF_IMAGE[character] for character in run).decode() + rest
    except UnicodeDecodeError:
        return match[0]


_SPACES = dict.fromkeys((160, 5760, *range(8192, 8203), 8239, 8287, 12288), " ")
_LINES = {0x0B: "\n", 0x0C: "\n", 0x85: "\n", 0x2028: "\n", 0x2029: "\n\n"}
_INVISIBLE = [
    *range(0x09),
    *range(0x0E, 0x20),
    *range(0x7F, 0x85),
    *range(0x86, 0xA0),
    0xAD,
    0x200B,
    0x2060,
    0xFEFF,
]
_INVISIBLE += [
    *range(0xFDD0, 0xFDF0),
    *(plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF)),
]
_TABLE: dict[int, str | None] = {**_SPACES, **_LINES, **dict.fromkeys(_INVISIBLE)}
_ODD = {chr(code): replacement or "" for code, replacement in _TABLE.items()}


def normalise_unicode(text: str) -> str:
    """NFC, one kind of line end and space, no control or invisible characters."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    # The few odd ones a text holds, one by one: quicker than a class of all, or a table for every character.
    for character in sorted(_ODD.keys() & set(text)):
        text = text.replace(character, _ODD[character])
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


_GUTENBERG_START = re.compile(r"\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK[^\n]*\n", re.IGNORECASE)
_GUTENBERG_END = re.compile(r"\n[^\n]*\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK", re.IGNORECASE)
_HEADING_FRONT = re.compile(
    r"\A\s*(?:#+ *(?:title|author|year|translator)\b[^\n]*\n\s*)+(?:-{3,}[ \t]*\n)?", re.IGNORECASE
)
_YAML_FRONT = re.compile(r"\A---[ \t]*\n(?:[A-Za-z_][\w-]*:[^\n]*\n|[ \t]+[^\n]*\n|- [^\n]*\n)+---[ \t]*\n")
_FACT = re.compile(r"^\W*(title|author|year)\s*:\s*[\"']?(.*?)[\"']?\s*$", re.IGNORECASE | re.MULTILINE)


def remove_frames(text: str) -> tuple[str, dict[str, str]]:
    """The text without licence header, footer and front matter, and the facts those state."""
    found: dict[str, str] = {}
    if start := _GUTENBERG_START.search(text, 0, 20_000):
        found |= _facts(text[: start.start()])
        text = text[start.end() :]
        if end := _GUTENBERG_END.search(text):
            text = text[: end.start()]
    for front in (_YAML_FRONT, _HEADING_FRONT):
        if match := front.match(text):
            found |= _facts(match[0])
            text = text[match.end() :]
    return text, found


def _facts(header: str) -> dict[str, str]:
    return {name.lower(): value for name, value in _FACT.findall(header) if value}


_LEAST_WRAPPED = 5


def unwrap_paragraphs(text: str) -> str:
    """Join wrapped lines when most paragraphs are wrapped; indented ones (verse, code, lists) stay."""
    if "\n" not in text:
        return text
    paragraphs = re.split(r"(\n[ \t]*\n\s*)", text)
    wrapped = [i for i in range(0, len(paragraphs), 2) if _is_wrapped(paragraphs[i])]
    if len(wrapped) < _LEAST_WRAPPED or 4 * len(wrapped) < len(paragraphs):
        return text
    for i in wrapped:
        joined = re.sub(r"(?<=\w-)\n(?=\w)", "", paragraphs[i])
        paragraphs[i] = re.sub(r"[ \t]*\n(?=\S)", " ", joined)
    return "".join(paragraphs)


_MARKUP = re.compile(r"^(?:[ \t]|[#>|*+-] |\d+[.)] |```)", re.MULTILINE)


def _is_wrapped(paragraph: str) -> bool:
    """Several lines of about one width, none of them indented or marked."""
    lines = paragraph.strip("\n").split("\n")
    if len(lines) < 2 or _MARKUP.search(paragraph):
        return False
    width = statistics.median(map(len, lines[:-1]))
    return 20 <= width <= 100 and all(len(line) <= 1.6 * width for line in lines)


_BLANK_LINES = re.compile(r"\n{3,}")
_INNER_SPACES = re.compile(r"(?<=\S)[ \t]{2,}(?=\S)")


def even_whitespace(text: str) -> str:
    """No spaces at line ends, at most one blank line, one space between words; indents stay."""
    if "  " in text or "\t" in text or " \n" in text or text.endswith(" "):
        text = "\n".join(_even_line(line) for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text).strip("\n")


def _even_line(line: str) -> str:
    line = line.rstrip(" \t")
    return _INNER_SPACES.sub(" ", line) if "  " in line or "\t" in line else line
