"""Plain text, Markdown and front matter: blocks that are runs of the file's own lines."""

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

from cairn.data.parsing.lines import BYTE_ORDER_MARK, Lines, TextFile
from cairn.data.parsing.parsed import BlockKind, ParsedDocument

_KINDS: dict[str, BlockKind] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "blockquote_open": "paragraph",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
    "html_block": "paragraph",
}
_IMAGE = re.compile(r"!\[[^\]]*\](?:\([^)\n]*\)|\[[^\]]*\])\s*\Z")
_FRONT_MATTER_FIELD = re.compile(r"""([A-Za-z][\w-]*):[ \t]*["']?(.*?)["']?\s*\Z""")
_LIST_ITEM = re.compile(r"[ \t]*(?:[-*•‣◦]|\(?\d{1,3}[.)]|[a-z][.)])[ \t]+\S")


def parse_plain(file: TextFile) -> ParsedDocument:
    """Paragraphs between blank lines; those in which every line starts as an item are lists."""
    runs = [
        Lines("list", run.first, run.last)
        for run in file.paragraphs(0, len(file.lines))
        if run.last - run.first > 1 and all(map(_LIST_ITEM.match, file.lines[run.first : run.last]))
    ]
    return file.document(runs)


def parse_markdown(file: TextFile) -> ParsedDocument:
    """CommonMark with tables and front matter."""
    fields, body = _front_matter(file)
    runs = [Lines("code", 0, body, name="front matter")] if body else []
    title = fields.get("title", "")
    # Only blocks: what is inside a line does not move them, and costs most of the time.
    tokens = MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])
    blanked = "\n" * body + "".join(line.rstrip("\r\n") + "\n" for line in file.lines[body:])
    for run, heading in _blocks(tokens.parse(blanked.removeprefix(BYTE_ORDER_MARK)), file):
        runs.append(run)
        title = title or (heading if run.level == 1 else "")
    return file.document(runs, title, {"front_matter": fields} if fields else None)


def _blocks(tokens: list[Token], file: TextFile) -> Iterator[tuple[Lines, str]]:
    """The outermost blocks, and of headings their text."""
    for at, token in enumerate(tokens):
        kind = _KINDS.get(token.type)
        if token.level or kind is None or token.map is None:
            continue
        first, last = token.map
        if kind == "heading":
            yield Lines(kind, first, last, int(token.tag[1:])), tokens[at + 1].content
        elif kind == "paragraph" and _IMAGE.match("".join(file.lines[first:last]).strip()):
            yield Lines("image", first, last), ""
        else:
            yield Lines(kind, first, last, name=token.info.strip() if kind == "code" else ""), ""


def _front_matter(file: TextFile) -> tuple[dict[str, str], int]:
    """Fields of YAML front matter that are one line each, and the number of its lines."""
    if not file.lines or file.lines[0].removeprefix(BYTE_ORDER_MARK).rstrip() != "---":
        return {}, 0
    fields: dict[str, str] = {}
    for number, line in enumerate(file.lines[1:200], start=1):
        if line.rstrip() in ("---", "..."):
            return fields, number + 1
        found = _FRONT_MATTER_FIELD.match(line)
        if found and found[2]:
            fields[found[1].lower()] = found[2]
    return {}, 0
