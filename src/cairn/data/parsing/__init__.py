"""parsing: files of many formats into pages of text, each with how far it can be trusted."""

from cairn.data.parsing.children import ParserPool, parse_in_child
from cairn.data.parsing.limits import ParseLimits
from cairn.data.parsing.parse import parse_bytes, parse_file
from cairn.data.parsing.parsed import (
    Block,
    BlockKind,
    Page,
    Parsed,
    ParsedDocument,
    ParsedFile,
    ParsedPage,
    Problem,
    ProblemKind,
    dump_document,
    load_document,
)

__all__ = [
    "Block",
    "BlockKind",
    "Page",
    "ParseLimits",
    "Parsed",
    "ParsedDocument",
    "ParsedFile",
    "ParsedPage",
    "ParserPool",
    "Problem",
    "ProblemKind",
    "dump_document",
    "load_document",
    "parse_bytes",
    "parse_file",
    "parse_in_child",
]
