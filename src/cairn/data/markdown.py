"""Markdown as plain text."""

import re

_HEADING = re.compile(r"^#+[ \t]*(?:(?:Title|Author|Year):.*)?|^-{3,}[ \t]*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n\s*")


def plain_text(markdown: str) -> str:
    """A book's Markdown as plain paragraphs: its front matter, rules and heading marks are taken off."""
    lines = _HEADING.sub("", markdown.replace("\r\n", "\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(line.strip() for line in lines.splitlines())).strip()
