"""Source code: a block for each definition, Python's by its own grammar, others by how they are laid out."""

import ast
import re
import warnings
from collections.abc import Iterator
from itertools import pairwise

from cairn.data.parsing.lines import BYTE_ORDER_MARK, Lines, TextFile
from cairn.data.parsing.parsed import ParsedDocument

_LONG_CLASS = 60
"""Lines above which a class is cut at its methods."""
_DEFINITION = re.compile(
    r"^[^\n=(]{0,80}?\b(?:class|struct|interface|enum|trait|impl|func|function|fn|def|sub|module|namespace|type|record)"
    r"\s+(?:\([^)\n]{0,80}\)\s*)?([A-Za-z_$][\w$:.]*)",
    re.MULTILINE,
)
_C_FUNCTION = re.compile(
    r"^[A-Za-z_][\w\s*&:<>,~]{0,120}?\b([A-Za-z_~][\w:~]*)\s*\([^;{}]{0,400}\)[^;{}]{0,80}\{", re.MULTILINE
)
_CLOSING = re.compile(r"[)\]}]|end\b|else\b|elif\b|except\b|finally\b|#?endif\b|fi\b|done\b|esac\b")


def parse_code(file: TextFile, suffix: str) -> ParsedDocument:
    """Every line is in a block of code; definitions have their names."""
    runs = None
    if suffix in (".py", ".pyi", ".pyw"):
        runs = _python(file)
    return file.document(_without_gaps(file, list(runs if runs is not None else _by_layout(file))))


def _python(file: TextFile) -> Iterator[Lines] | None:
    """Functions and classes of a Python file; None where it is no Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the file's own odd escapes
            tree = ast.parse(file.text.removeprefix(BYTE_ORDER_MARK))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    # Python ends lines at form feeds too; its numbers of lines are ours only where there is none.
    return None if "\x0c" in file.text else _definitions(tree.body, "")


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[Lines]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        last = node.end_lineno or node.lineno
        name = prefix + node.name
        if not isinstance(node, ast.ClassDef) or last - first <= _LONG_CLASS:
            yield Lines("code", first, last, name=name)
            continue
        methods = list(_definitions(node.body, f"{name}."))
        head = methods[0].first if methods else last
        yield Lines("code", first, head, name=name)
        yield from methods


def _by_layout(file: TextFile) -> Iterator[Lines]:
    """Runs that begin without indent after a blank line, where nothing closes."""
    starts = [
        at
        for at, line in enumerate(file.lines)
        if (at == 0 or file.is_blank(at - 1))
        and not file.is_blank(at)
        and line[0] not in " \t"
        and not _CLOSING.match(line)
    ]
    for start, end in pairwise([*starts, len(file.lines)]):
        text = "".join(file.lines[start : min(end, start + 40)])[:4000]
        named = _DEFINITION.search(text) or _C_FUNCTION.search(text)
        yield Lines("code", start, end, name=named[1] if named else "")


def _without_gaps(file: TextFile, runs: list[Lines]) -> Iterator[Lines]:
    """The same with what stands between definitions as blocks too."""
    position = 0
    for run in sorted(runs, key=lambda run: run.first):
        if run.first > position:
            yield Lines("code", position, run.first)
        yield run
        position = max(position, run.last)
    if position < len(file.lines):
        yield Lines("code", position, len(file.lines))
